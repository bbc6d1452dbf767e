"""The samplers of a search, and the search space as they see it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from mbsearch.analysis.calibration import long_training_gain
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure, measure
from mbsearch.errors import SpecError, did_you_mean
from mbsearch.search.sampler.cost_aware import CostAwareSampler
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
            return _cost_aware(space, seed, measure, feasible)
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


_UNBUILDABLE = 1e99  # a cost: a descent turns away from it
_NO_GAIN_FEATURES = (0.0,) * 7


class _Facts(NamedTuple):
    """What is known of a network before training; `others` are logarithms of costs."""

    cost: float
    others: tuple[float, ...]
    fingerprint: str
    feasible: bool
    work: float
    growth: float = 0.0
    within: tuple[bool, ...] = ()
    gain_features: tuple[float, ...] = _NO_GAIN_FEATURES


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


def _cost_aware(
    space: SearchSpecification,
    seed: int,
    measure: Measure,
    feasible: Params | None,
) -> CostAwareSampler:
    """The cost-aware sampler with everything that the space knows of a network for free."""

    metric, budgets = space.settings.metric, space.settings.budgets
    others = [each for each in ("mult_adds", "params") if each != metric]

    # The sampler asks for each fact by itself, and for all of them of one network in a row.
    @lru_cache(maxsize=64)
    def decoded(params: tuple[tuple[str, Any], ...]) -> tuple[Architecture, Params]:
        return space.decode_canonical(dict(params))

    @lru_cache(maxsize=64)
    def facts(params: tuple[tuple[str, Any], ...]) -> _Facts:
        network, _ = decoded(params)
        try:
            costs = measure(network)
        except SpecError:  # its strides leave no pixels: never suggested, and no way to what is
            nothing = (0.0,) * len(others)
            return _Facts(
                _UNBUILDABLE,
                nothing,
                network.fingerprint,
                feasible=False,
                work=1.0,
                within=(False,) * len(budgets),
            )
        return _Facts(
            costs[metric],
            tuple(math.log10(costs[other]) for other in others),
            network.fingerprint,
            feasible=space.settings.excess(costs) is None,
            work=training_work(costs["mult_adds"]),
            growth=long_training_gain(costs, space.settings.proxy.growth),
            within=tuple(budget.excess(costs) is None for budget in budgets),
            gain_features=gain_features(network, costs),
        )

    return CostAwareSampler(
        distributions(space),
        lambda params: facts(tuple(params.items())).cost,
        features=lambda params: facts(tuple(params.items())).others,
        canonical=lambda params: decoded(tuple(params.items()))[1],
        key=lambda params: facts(tuple(params.items())).fingerprint,
        feasible=lambda params: facts(tuple(params.items())).feasible,
        work=lambda params: facts(tuple(params.items())).work,
        growth=lambda params: facts(tuple(params.items())).growth,
        budgets=(lambda params: facts(tuple(params.items())).within) if budgets else None,
        gain_features=lambda params: facts(tuple(params.items())).gain_features,
        start=feasible,
        seed=seed,
    )
