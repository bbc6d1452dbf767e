"""Predicted accuracies of a study's networks, with the training noise removed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import optuna

from mbsearch.analysis.calibration import LEAST_PAIRS, add_gain, denoised, long_training_gain
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure, measure
from mbsearch.errors import SpecError
from mbsearch.search.factory import make_sampler
from mbsearch.search.sampler.cost_aware import CostAwareSampler
from mbsearch.search.sampler.observations import ANCHORS, FINALS
from mbsearch.space.template import Params
from mbsearch.study.records import Estimate, TrialRecord, complete, of_highest_fidelity
from mbsearch.study.store import DIRECTIONS, StudyStore

# With fewer trials the model is no better than the measured accuracies. Its memory is quadratic in
# the number of trials, its time cubic: 10,000 would take 5 GB and a minute.
LEAST_TRIALS = 10
MOST_TRIALS = 3_000


class Estimates:
    """Predicts the accuracies of a study's networks by the cost-aware sampler's model.

    The best of many noisy accuracies is partly the luckiest; a model that also uses similar
    networks corrects for that. If the study's sampler is not the cost-aware one, another instance
    of it provides the model.
    """

    def __init__(
        self, store: StudyStore, space: SearchSpecification, measure: Measure = measure
    ) -> None:
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
        """Predict the candidates' accuracies after screening, by trial.

        The dictionary is empty for a study with too few or too many trials.
        """
        done = _candidates(records)
        if not self._is_modelled(records):
            return {}
        # A copy of the study has no attributes, and so no longer trainings.
        study = optuna.create_study(directions=DIRECTIONS)
        study.add_trials(self._store.search.get_trials(deepcopy=False))
        means, _ = self._model.predict(study, [self._space.complete(r.params) for r in done])
        return {
            r.trial: add_gain(float(mean), -self._growth(r))
            for r, mean in zip(done, means, strict=True)
        }

    def highest(self) -> dict[int, Estimate]:
        """Predict each network's accuracy at the study's highest fidelity, by trial.

        One model predicts candidates and the references that are anchors of the study. A network's
        own promotion or final has the weight that its noise allows. If the settings have a growth
        by cost, other references have their measured accuracy with that growth. The dictionary is
        empty for a study with too few or too many trials, or with too few promotions and finals to
        calibrate them.
        """
        records = self._store.records()
        candidates = _candidates(records)
        if not self._is_modelled(records):
            return {}
        attributes = self._store.settings()
        finals = _finals(attributes)
        if not finals and 0 < len(denoised_promotions(records)) < LEAST_PAIRS:
            return {}
        found = {r.trial: self._space.complete(r.params) for r in candidates}
        found |= self._anchored(records, attributes.get(ANCHORS, []))
        means, deviations = self._model.predict(self._store.search, list(found.values()))
        estimates = {
            trial: Estimate(float(mean), float(deviation))
            for trial, mean, deviation in zip(found, means, deviations, strict=True)
        }
        if self._space.settings.proxy.growth and finals < LEAST_PAIRS:
            others = [
                r
                for r in of_highest_fidelity(records)
                if r.is_baseline and r.trial not in estimates
            ]
            later = self.with_growth({r.trial: r.accuracy for r in others}, records)
            estimates |= {
                r.trial: Estimate(later[r.trial], r.accuracy_noise or 0.0) for r in others
            }
        return estimates

    def finalist(
        self, records: Sequence[TrialRecord], budget: int, begun: Collection[int]
    ) -> TrialRecord | None:
        """Return the candidate within a budget to train as the next final, or None.

        The `budget` is its index in the settings. Trials whose final has `begun` are left out.
        """
        numbers = self._store.numbers()
        waiting = {
            numbers[r.trial]: r
            for r in _candidates(records)
            if r.trial not in begun and self._space.settings.budgets[budget].excess(r.costs) is None
        }
        if not self._is_modelled(records):
            return max(waiting.values(), key=lambda r: (r.accuracy, -r.cost), default=None)
        of_trials = {numbers[trial] for trial in begun if trial in numbers}
        chosen = self._model.finalists(self._store.search, 1, budget=budget, begun=of_trials)
        return waiting.get(chosen[0]) if chosen else None

    def _anchored(
        self, records: Sequence[TrialRecord], anchors: Sequence[Mapping[str, Any]]
    ) -> dict[int, Params]:
        """Return the parameters of the references that are anchors of the study, by trial."""
        known = [self._space.complete(anchor["params"]) for anchor in anchors]
        found = {}
        for record in complete(list(records)) if known else []:
            if record.is_baseline:
                with suppress(SpecError):
                    params = self._space.complete(self._space.encode(record.architecture))
                    if params in known:
                        found[record.trial] = params
        return found

    def with_growth(
        self, accuracies: Mapping[int, float], records: Sequence[TrialRecord]
    ) -> dict[int, float]:
        """Add to accuracies the gain from longer training that the settings assume, by trial."""
        among = [r for r in records if r.trial in accuracies]
        return {r.trial: add_gain(accuracies[r.trial], self._growth(r)) for r in among}

    def _growth(self, record: TrialRecord) -> float:
        return long_training_gain(record.costs, self._space.settings.proxy.growth)

    def _is_modelled(self, records: Sequence[TrialRecord]) -> bool:
        """Return whether the number of trials is in the range for which the model is used."""
        known = sum(r.evaluation is not None and not r.is_baseline for r in records)
        return len(_candidates(records)) >= LEAST_TRIALS and known <= MOST_TRIALS


def denoised_promotions(records: Sequence[TrialRecord]) -> dict[int, float]:
    """Return by trial the candidates' accuracies after promotion, denoised with validation loss."""
    promoted = [r.at_highest_fidelity for r in _candidates(records) if r.promotion is not None]
    found = [(r.trial, r.evaluation) for r in promoted if r.evaluation is not None]
    values = denoised([e.accuracy for _, e in found], [e.validation_loss for _, e in found])
    return {trial: value for (trial, _), value in zip(found, values, strict=True)}


def _candidates(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [r for r in complete(list(records)) if not r.is_baseline]


def _finals(attributes: Mapping[str, Any]) -> int:
    """Return the number of networks with a final."""
    anchors = [a for a in attributes.get(ANCHORS, []) if a.get("final") is not None]
    return len(attributes.get(FINALS, {})) + len(anchors)
