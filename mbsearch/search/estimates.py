"""What a study lets expect of its networks, free of the luck of each one's own training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import optuna

from mbsearch.analysis.calibration import (
    Calibration,
    accuracy_of,
    denoised,
    grown,
    growth_of,
    logit,
)
from mbsearch.cost import Measure, measure
from mbsearch.records import TrialRecord, complete, shown
from mbsearch.search.sampler import CostAwareSampler
from mbsearch.search.samplers import make_sampler
from mbsearch.search.storage import DIRECTIONS, StudyStore
from mbsearch.space.space import SearchSpace

# Of fewer trials a model knows no more than each of them says itself; its memory grows with the
# square of their number, and its time with the cube: 10,000 would take 5 GB and a minute.
LEAST_TRIALS = 10
MOST_TRIALS = 3_000


class Estimates:
    """Expects accuracies of the candidates of a study, by the cost-aware sampler's model of them.

    The best of many noisy accuracies is in part the luckiest; a model that has seen a network's
    relatives too is not taken in so easily. It is the study's own sampler's where that is the
    cost-aware one, and another of its kind where it is not.
    """

    def __init__(self, store: StudyStore, space: SearchSpace, measure: Measure = measure) -> None:
        self._store, self._space, self._measure = store, space, measure

    @cached_property
    def _model(self) -> CostAwareSampler:
        own = self._store.search.sampler
        if isinstance(own, CostAwareSampler):
            return own
        candidates = (r for r in self._store.records() if not r.is_baseline)
        feasible = next((self._space.complete(r.params) for r in candidates), None)
        model = make_sampler(
            "cost-aware", self._space, seed=0, measure=self._measure, feasible=feasible
        )
        assert isinstance(model, CostAwareSampler)
        return model

    def short(self, records: Sequence[TrialRecord]) -> dict[int, float]:
        """Accuracy of the study's candidates after the proxy's training, by trial.

        Empty for a study that is too small to tell, or too large.
        """
        done = _candidates(records)
        known = sum(r.evaluation is not None and not r.is_baseline for r in records)
        if len(done) < LEAST_TRIALS or known > MOST_TRIALS:  # it learns from those stopped too
            return {}
        # A copy, so that the model does not hear of the longer trainings.
        study = optuna.create_study(directions=DIRECTIONS)
        study.add_trials(self._store.search.get_trials(deepcopy=False))
        means, _ = self._model.predict(study, [self._space.complete(r.params) for r in done])
        return {
            r.trial: grown(float(mean), -self._growth(r))
            for r, mean in zip(done, means, strict=True)
        }

    def highest(self) -> dict[int, float]:
        """Accuracy at the study's highest fidelity, and what the network gains after it, by trial.

        Where networks were promoted: what the short trainings let expect of the longer one,
        corrected by the one that the network had, as far as its noise allows. The baselines have
        their own accuracies, where any network gains anything after. Empty for a study that is too
        small to tell, or too large.
        """
        records = self._store.records()
        expected = self._highest(records)
        if not expected or not self._space.settings.proxy.growth:
            return expected
        expected |= {r.trial: r.accuracy for r in shown(records) if r.is_baseline}
        return self.with_growth(expected, records)

    def with_growth(
        self, accuracies: Mapping[int, float], records: Sequence[TrialRecord]
    ) -> dict[int, float]:
        """What networks of these records, by trial, are believed to grow to."""
        among = [r for r in records if r.trial in accuracies]
        return {r.trial: grown(accuracies[r.trial], self._growth(r)) for r in among}

    def _growth(self, record: TrialRecord) -> float:
        return growth_of(record.costs, self._space.settings.proxy.growth)

    def _highest(self, records: Sequence[TrialRecord]) -> dict[int, float]:
        short = self.short(records)
        after = denoised_promotions(records)
        if not short or not after:
            return short
        calibration = Calibration.between([short[trial] for trial in after], list(after.values()))
        if calibration is None:
            return {}
        trust = _trust(calibration, self._store.noise(promoted=True))
        expected = {trial: calibration.logit_of(accuracy) for trial, accuracy in short.items()}
        for trial, accuracy in after.items():
            expected[trial] += trust * (logit(accuracy) - expected[trial])
        return {trial: accuracy_of(log_odds) for trial, log_odds in expected.items()}


def denoised_promotions(records: Sequence[TrialRecord]) -> dict[int, float]:
    """Accuracies of candidates after their longer training, denoised by its loss, by trial."""
    promoted = [r.highest for r in _candidates(records) if r.promotion is not None]
    found = [(r.trial, r.evaluation) for r in promoted if r.evaluation is not None]
    values = denoised([e.accuracy for _, e in found], [e.validation_loss for _, e in found])
    return {trial: value for (trial, _), value in zip(found, values, strict=True)}


def _candidates(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [r for r in complete(list(records)) if not r.is_baseline]


def _trust(calibration: Calibration, noise: float | None) -> float:
    """How far a longer training is believed against the line: its share in the inverse variances.

    What strays from the line is in part the noise of the longer trainings, in part the networks'
    own. `noise` is the standard deviation of one accuracy over seeds, unknown to a study without
    baselines: then half of it is.
    """
    if noise is None:
        return 0.5
    middle = accuracy_of(calibration.top)
    of_seeds = noise / (middle * (1 - middle))  # in logits, by their slope there
    return max(0.0, 1 - (of_seeds / calibration.spread) ** 2)
