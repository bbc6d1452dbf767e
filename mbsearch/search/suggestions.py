"""Ask the sampler for the next network to train; skip those trained, invalid or over a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure
from mbsearch.errors import SpecError
from mbsearch.search.factory import distributions
from mbsearch.space.architecture import Architecture
from mbsearch.study.store import StudyStore

FREE_ASKS = 50  # suggestions in a row without training, before a network is drawn at random
RANDOM_DRAWS = 2_000
ENUMERATE_UP_TO = 20_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network to train, and its trial number in the search study."""

    number: int
    architecture: Architecture
    params: Mapping[str, Any]
    costs: Mapping[str, int]


@dataclass
class Suggestions:
    """Asks the study's sampler for networks that have not been trained.

    `tried` maps the fingerprint of each trained network to its trial. `exhausted` becomes true when
    every network of the space within the limits has been tried.
    """

    store: StudyStore
    space: SearchSpecification
    measure: Measure
    seed: int
    tried: dict[str, int] = field(default_factory=dict)
    exhausted: bool = False
    _distributions: dict[str, BaseDistribution] = field(init=False)

    def __post_init__(self) -> None:
        self._distributions = distributions(self.space)

    def next(self, trial: int) -> Candidate | None:
        """Return the next candidate to train, or None if none is left.

        The argument `trial` is its number. Suggestions that need no training are stored as pruned
        trials with the reason.
        """
        study = self.store.search
        for _ in range(FREE_ASKS):
            asked = study.ask(self._distributions)
            architecture, params = self.space.decode_canonical(asked.params)
            costs = self._costs_or_reason(architecture)
            if not isinstance(costs, str):
                return Candidate(asked.number, architecture, params, costs)
            self.store.set_attr(study, asked.number, "skipped", costs)
            study.tell(asked.number, state=TrialState.PRUNED)
        return self._draw(trial)

    def _draw(self, trial: int) -> Candidate | None:
        """Return a new candidate without asking the sampler; None if none is found."""
        if self.space.size <= ENUMERATE_UP_TO:
            drawn = self.space.enumerate_params()
        else:
            rng = Random(f"{self.seed}/{trial}")
            drawn = (self.space.sample_params(rng) for _ in range(RANDOM_DRAWS))
        for params in drawn:
            architecture = self.space.decode(params)
            costs = self._costs_or_reason(architecture)
            if not isinstance(costs, str):
                self.store.search.enqueue_trial(self.space.complete(params))
                asked = self.store.search.ask(self._distributions)
                return Candidate(asked.number, architecture, params, costs)
        self.exhausted = True
        return None

    def _costs_or_reason(self, architecture: Architecture) -> dict[str, int] | str:
        """Return a network's costs, or the reason why it is not trained.

        The reason may be that it was trained already, cannot be built, or is over a limit.
        """
        known = self.tried.get(architecture.fingerprint)
        if known is not None:
            return f"the network of trial {known}"
        try:
            costs = self.measure(architecture)
        except SpecError as error:
            return str(error)
        return self.space.settings.excess(costs) or costs
