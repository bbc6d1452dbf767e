"""Build the samplers by name, with the search space as Optuna distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from mbsearch.analysis.calibration import long_training_gain
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure, measure
from mbsearch.errors import SpecError, did_you_mean
from mbsearch.search.grid import GRID, GridSampler
from mbsearch.search.sampler.candidates import CACHE_SIZE
from mbsearch.search.sampler.cost_aware import CostAwareSampler
from mbsearch.search.sampler.facts import Facts
from mbsearch.space.architecture import Architecture
from mbsearch.space.template import Params

_SEEDS = 2**32  # of a sampler
SAMPLERS = ("cost-aware", "tpe", "nsga2", "gp", "random", GRID)


def distributions(space: SearchSpecification) -> dict[str, BaseDistribution]:
    """Return one categorical distribution for each choice of a space, by name.

    All choices are suggested in every trial, also inactive ones: with conditional parameters most
    samplers would fall back to random draws.
    """
    return {choice.name: CategoricalDistribution(choice.values) for choice in space.choices}


def make_sampler(
    name: str,
    space: SearchSpecification,
    *,
    seed: int,
    trials: int = 0,
    measure: Measure = measure,
    feasible: Params | None = None,
) -> BaseSampler:
    """Return the sampler of a given name, one of the choices of ``--sampler``.

    Args:
        name: one of `SAMPLERS`.
        space: search space with its objectives, limits and budgets. With budgets, the cost-aware
            sampler searches for the best network within each.
        seed: seed of the suggestions.
        trials: number of trials of the study. Optuna's samplers would otherwise repeat their first
            draws after a restart.
        measure: costs of a network, with all that the objectives and limits name.
        feasible: parameters of a network within the limits, if known.

    Raises:
        SpecError: there is no sampler of that name.
    """
    later = (seed + trials) % _SEEDS
    match name:
        case "cost-aware":
            return CostAwareSampler(
                distributions(space),
                describe=NetworkFacts(space, measure),
                start=feasible,
                seed=seed,
            )
        case "tpe":
            return TPESampler(multivariate=True, constant_liar=True, seed=later)
        case "nsga2":
            return NSGAIISampler(population_size=20, seed=later)
        case "gp":
            return GPSampler(seed=later)
        case "random":
            return RandomSampler(seed=later)
        case "grid":
            return GridSampler([space.complete(p) for p in space.enumerate_params()])
        case _:
            raise unknown_sampler(name)


def unknown_sampler(name: str) -> SpecError:
    """Return the error for an unknown sampler name, which suggests the closest name."""
    return SpecError(
        f"sampler: expected one of {', '.join(SAMPLERS)}, got {name!r}"
        + did_you_mean(name, SAMPLERS)
    )


def training_work(mult_adds: int) -> float:
    """Return the effort of training a network, relative to other networks.

    It grows more slowly than the Mult-Adds, as part of a step is the same for all networks: from
    6 M to 125 M an epoch takes 7 times as long (docs/sampler.md).
    """
    return math.pow(mult_adds, 2 / 3)


def gain_features(network: Architecture, costs: Mapping[str, int]) -> tuple[float, ...]:
    """Return a network's features that predict the gain from short to long training.

    They are log Mult-Adds, log parameters, number of blocks, log resolution, log alpha, and as 0 or
    1 whether the network has hard-swish and whether it has squeeze-excite.
    """
    activations = [network.activation, *(getattr(s, "activation", None) for s in network.stages)]
    return (
        math.log(costs["mult_adds"]),
        math.log(costs["params"]),
        float(sum(stage.repeats for stage in network.stages)),
        math.log(network.resolution.side),
        math.log(network.alpha),
        float("hard_swish" in activations),
        float(any(getattr(stage, "squeeze_ratio", 0) for stage in network.stages)),
    )


_UNBUILDABLE = 1e99  # a cost: a descent turns away from it
_NO_GAIN_FEATURES = (0.0,) * 7


@dataclass(frozen=True)
class NetworkFacts:
    """Computes the `Facts` of networks for the cost-aware sampler, with a cache."""

    space: SearchSpecification
    measure: Measure
    _cache: dict[tuple[tuple[str, Any], ...], Facts] = field(default_factory=dict, repr=False)

    def __call__(self, params: dict[str, Any]) -> Facts:
        """Return the facts of the network with these parameters.

        They are computed once for parameter sets with the same active parameters.
        """
        network, canonical = self.space.decode_canonical(params)
        address = tuple(canonical.items())
        if address not in self._cache:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            self._cache[address] = self._facts(network, canonical)
        return self._cache[address]

    @cached_property
    def _needed(self) -> frozenset[str]:
        """The costs that facts are computed from; all others would take half of the time."""
        settings = self.space.settings
        return settings.bounded | {settings.metric, "mult_adds", "params"}

    def _facts(self, network: Architecture, canonical: Params) -> Facts:
        settings = self.space.settings
        others = [each for each in ("mult_adds", "params") if each != settings.metric]
        try:
            costs = self.measure(network, self._needed)
        except SpecError:  # a stride meets a map of one pixel: never suggested
            return Facts(
                _UNBUILDABLE,
                canonical,
                network.fingerprint,
                feasible=False,
                features=(0.0,) * len(others),
                within=(False,) * len(settings.budgets),
                gain_features=_NO_GAIN_FEATURES,
            )
        return Facts(
            costs[settings.metric],
            canonical,
            network.fingerprint,
            feasible=settings.excess(costs) is None,
            features=tuple(math.log10(costs[other]) for other in others),
            work=training_work(costs["mult_adds"]),
            growth=long_training_gain(costs, settings.proxy.growth),
            within=tuple(budget.excess(costs) is None for budget in settings.budgets),
            gain_features=gain_features(network, costs),
        )
