"""The samplers that a search can use, and the space as Optuna sees it."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from mbsearch.errors import SpecError, did_you_mean
from mbsearch.space.space import SearchSpace

SAMPLERS = ("tpe", "nsga2", "random")


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """One categorical parameter a choice, always suggested: those that don't count are ignored.

    A space of fixed dimension keeps every sampler working; conditional parameters would make
    most of them fall back to random draws.
    """
    return {choice.name: CategoricalDistribution(choice.values) for choice in space.choices}


def make_sampler(name: str, space: SearchSpace, *, seed: int) -> BaseSampler:
    """A sampler by its name on the command line.

    Raises:
        SpecError: there is no sampler of that name.
    """
    match name:
        case "tpe":
            return TPESampler(multivariate=True, constant_liar=True, seed=seed)
        case "nsga2":
            return NSGAIISampler(population_size=20, seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case _:
            raise SpecError(
                f"sampler: expected one of {', '.join(SAMPLERS)}, got {name!r}"
                + did_you_mean(name, SAMPLERS)
            )
