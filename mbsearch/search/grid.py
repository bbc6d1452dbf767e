"""Grid search: train every network of a space, each with the same number of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mbsearch.config.racing_settings import Racing
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure
from mbsearch.errors import SpecError, StorageError
from mbsearch.search.sampler.observations import ABANDONED
from mbsearch.space.template import Params
from mbsearch.study.store import StudyStore

GRID = "grid"
"""Name of the sampler."""
MOST_NETWORKS = 1_000
"""Largest space that a grid search accepts."""


class GridSampler(BaseSampler):
    """Suggest the encodings of a space in the order of its YAML file, one a trial.

    Optuna's own grid sampler repeats a network for each value of an inactive choice.
    """

    def __init__(self, encodings: Sequence[Params]) -> None:
        self._encodings = encodings

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return no parameters: each is looked up by `sample_independent`."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return no parameters."""
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        """Return a parameter of the encoding whose position is the trial's among the others.

        An abandoned suggestion does not count: its encoding is suggested again.
        """
        earlier = study.get_trials(deepcopy=False)[: trial.number]
        position = sum(ABANDONED not in each.user_attrs for each in earlier)
        return self._encodings[position % len(self._encodings)][name]


def adapted(space: SearchSpecification, sampler: str) -> SearchSpecification:
    """Return the specification with the settings that a sampler needs.

    A grid search has no pruning, promotions and finals, so that all networks have one recipe.

    Raises:
        SpecError: the space is too large for a grid search.
    """
    if sampler != GRID:
        return space
    if space.size > MOST_NETWORKS:
        raise SpecError(
            f"--sampler {GRID}: expected a space of at most {MOST_NETWORKS:,} networks, "
            f"{space.name} has {space.size:,}"
        )
    settings = space.settings
    return space.with_settings(
        {
            "racing": Racing(rungs=()),
            "promotion": settings.promotion.model_copy(update={"share": 0.0}),
            "finals": settings.finals.model_copy(update={"minutes": 0}),
        }
    )


def require_unpruned(store: StudyStore, folder: Path) -> None:
    """Raise an error for a study with pruned trials, which a grid would not train to the end.

    Raises:
        StorageError: an earlier run pruned trials.
    """
    pruned = sum(1 for _ in store.trials(store.search, (TrialState.PRUNED,)))
    if pruned:
        raise StorageError(
            f"{folder}: expected a study without pruned trials for --sampler {GRID}, got {pruned}; "
            "start another study with --name"
        )


def grid_networks(space: SearchSpecification, measure: Measure) -> int:
    """Return the number of different networks of a space that are within its limits."""
    found = set()
    for params in space.enumerate_params():
        network = space.decode(params)
        try:
            costs = measure(network)
        except SpecError:  # a stride meets a map of one pixel
            continue
        if space.settings.excess(costs) is None:
            found.add(network.fingerprint)
    return len(found)
