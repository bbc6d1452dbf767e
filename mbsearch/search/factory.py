"""The samplers of a search, and the search space as they see it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from mbsearch.analysis.calibration import long_training_gain
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure, measure
from mbsearch.errors import SpecError, did_you_mean
from mbsearch.search.sampler.candidates import CACHE_SIZE
from mbsearch.search.sampler.cost_aware import CostAwareSampler
from mbsearch.search.sampler.facts import Facts
from mbsearch.space.architecture import Architecture
from mbsearch.space.template import Params

SAMPLERS = ("cost-aware", "tpe", "nsga2", "gp", "random")


def distributions(space: SearchSpecification) -> dict[str, BaseDistribution]:
    """One categorical parameter a choice, always suggested: those that don't count are ignored.

    A space of fixed dimension keeps every sampler working; conditional parameters would make
    most of them fall back to random draws.
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
    """A sampler by its name on the command line.

    `trials` are those that the study has already: samplers that draw from a stream of their own
    would otherwise repeat, after a restart, the draws of the start. `measure` gives every cost that
    the space's objectives and limits name, and `feasible` is a network that keeps the limits, where
    one is known. Where the space has budgets, the cost-aware sampler looks for the best network
    within each.

    Raises:
        SpecError: there is no sampler of that name.
    """
    match name:
        case "cost-aware":
            return CostAwareSampler(
                distributions(space),
                describe=NetworkFacts(space, measure),
                start=feasible,
                seed=seed,
            )
        case "tpe":
            return TPESampler(multivariate=True, constant_liar=True, seed=seed + trials)
        case "nsga2":
            return NSGAIISampler(population_size=20, seed=seed + trials)
        case "gp":
            return GPSampler(seed=seed + trials)
        case "random":
            return RandomSampler(seed=seed + trials)
        case _:
            raise unknown_sampler(name)


def unknown_sampler(name: str) -> SpecError:
    """The error of a name that is none of `SAMPLERS`; the nearest is proposed."""
    return SpecError(
        f"sampler: expected one of {', '.join(SAMPLERS)}, got {name!r}"
        + did_you_mean(name, SAMPLERS)
    )


def training_work(mult_adds: int) -> float:
    """What the training of a network takes, beside that of others.

    Less than its Mult-Adds say, for part of a step does not depend on the network: from 6 M to
    125 M an epoch takes 7 times as long (docs/sampler.md).
    """
    return math.pow(mult_adds, 2 / 3)


def gain_features(network: Architecture, costs: Mapping[str, int]) -> tuple[float, ...]:
    """Properties on which the gain from a short to a long training may depend.

    Log Mult-Adds, log parameters, number of blocks, log resolution, log alpha, and as 0 or 1
    whether the network has hard-swish and whether it has squeeze-excite.
    """
    activations = [network.activation, *(getattr(s, "activation", None) for s in network.stages)]
    return (
        math.log(costs["mult_adds"]),
        math.log(costs["params"]),
        float(sum(stage.repeats for stage in network.stages)),
        math.log(network.resolution),
        math.log(network.alpha),
        float("hard_swish" in activations),
        float(any(getattr(stage, "squeeze_ratio", 0) for stage in network.stages)),
    )


_UNBUILDABLE = 1e99  # a cost: a descent turns away from it
_NO_GAIN_FEATURES = (0.0,) * 7


@dataclass(frozen=True)
class NetworkFacts:
    """Facts of the networks of a space, for the cost-aware sampler."""

    space: SearchSpecification
    measure: Measure
    _cache: dict[tuple[tuple[str, Any], ...], Facts] = field(default_factory=dict, repr=False)

    def __call__(self, params: dict[str, Any]) -> Facts:
        """Decode and measure a network, once for parameter sets with the same active ones."""
        network, canonical = self.space.decode_canonical(params)
        address = tuple(canonical.items())
        if address not in self._cache:
            if len(self._cache) >= CACHE_SIZE:
                self._cache.clear()
            self._cache[address] = self._facts(network, canonical)
        return self._cache[address]

    def _facts(self, network: Architecture, canonical: Params) -> Facts:
        settings = self.space.settings
        others = [each for each in ("mult_adds", "params") if each != settings.metric]
        try:
            costs = self.measure(network)
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
