"""Select the fidelity on which a budget's answer is based, and compare accuracies at it.

Networks are compared with networks of the same fidelity only. The highest fidelity that covers the
budget decides: retraining overrides finals, these override promotion, and promotion screening.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from mbsearch.analysis.findings import (
    Findings,
    is_within,
    measured,
    records_within,
    require_costs,
)
from mbsearch.analysis.intervals import Interval, independent_difference
from mbsearch.analysis.paired_comparison import Posterior, posterior
from mbsearch.analysis.repeated_trainings import (
    USUAL_IMAGES,
    Trainings,
    pooled_seed_deviation_of,
    trainings_of_finals,
    trainings_of_retrained,
)
from mbsearch.config.budgets import Budget
from mbsearch.config.families import COMPARED, DONORS, scaled_reference
from mbsearch.cost.metrics import amount, quantity
from mbsearch.errors import NoAnswerError, SpecError
from mbsearch.space.size import Size
from mbsearch.study.noise import SEED_DEVIATION, interval_of, measured_interval, standard_error
from mbsearch.study.records import (
    TABLE,
    UNTRIED,
    Fidelity,
    State,
    TrialRecord,
    complete,
    metric_of,
    score_of_study,
)
from mbsearch.study.retrained_file import Retrained

RETRAINING = "retraining"
"""Basis of an answer whose networks were retrained by the full recipe and tested."""
_REACH = 0.5  # finals decide if they reach this share of the budget that screening uses


@dataclass(frozen=True, slots=True)
class Scored:
    """A network's record and its accuracy with an interval."""

    record: TrialRecord
    accuracy: Interval

    def brief(self) -> str:
        """Return name, cost and accuracy: ``MobileNetV2 0.35/128 (12.6 M, 0.725)``."""
        cost = quantity(self.record.metric, self.record.cost)
        return f"{self.record.label} ({cost}, {self.accuracy.mean:.3f})"


class FidelityLevel(Protocol):
    """Networks, addressed by index, whose accuracies come from one fidelity."""

    @property
    def records(self) -> Sequence[TrialRecord]:
        """The records of the networks."""

    @property
    def estimates(self) -> Sequence[float]:
        """The accuracies by which the networks are ranked."""

    def scored(self, i: int) -> Scored:
        """Return network `i` with its accuracy and interval."""

    def margin(self, i: int, j: int) -> Interval:
        """Return the accuracy of network `i` minus that of `j`, with its interval."""

    def basis(self, i: int) -> str:
        """Return the name of the fidelity of network `i`."""

    def predicted(self, i: int) -> bool:
        """Return whether the accuracy of network `i` is a prediction."""

    def pixels(self, i: int) -> Size | None:
        """Return the size of the training images of network `i`; None if unknown."""


def fidelity_levels(findings: Findings, budget: Budget) -> list[FidelityLevel]:
    """Return the fidelities that cover a budget, from lowest to highest.

    Finals cover it if they include a searched network and reach at least half of the budget that
    screening reaches. Retraining covers it if it includes the network that would be the answer
    without it.

    Raises:
        NoAnswerError: no trained network is within the budget; the smallest is named.
        StorageError: the budget bounds a cost that the study does not have.
    """
    require_costs(findings, budget)
    screened = records_within(findings.choosable, budget)
    if not screened:
        raise _no_answer(findings, findings.within_limits, budget)
    levels: list[FidelityLevel] = [_Screened(screened)]
    finals = records_within(findings.finalists, budget)
    if _covers(finals, screened, budget):
        levels.append(_finals(finals))
    known = _retrained(findings)
    if not (retrained := [pair for pair in known if is_within(budget, pair[0].costs)]):
        return levels
    chosen = levels[-1].records[best_of(levels[-1], range(len(levels[-1].records)))]
    if chosen.fingerprint in {record.fingerprint for record, _ in retrained}:
        pool = [trainings for _, trainings in known]
        levels.append(_Trained(retrained, RETRAINING, pool))
    return levels


def _covers(finals: Sequence[TrialRecord], screened: Sequence[TrialRecord], budget: Budget) -> bool:
    if not finals:
        return False
    if all(r.is_baseline for r in finals) and not all(r.is_baseline for r in screened):
        return False
    reached = max(budget.used_share(r.costs) for r in finals)
    return reached >= _REACH * max(budget.used_share(r.costs) for r in screened)


def best_of(level: FidelityLevel, among: Sequence[int]) -> int:
    """Return the index of the network with the highest estimate."""

    def rank(i: int) -> tuple[float, int]:
        record = level.records[i]
        return (0.0 if record.evaluation is None else record.accuracy), -record.cost

    estimates = [level.estimates[i] for i in among]
    highest = max(estimates)
    tied = (i for i, found in zip(among, estimates, strict=True) if found == highest)
    return max(tied, key=rank)


@dataclass(frozen=True)
class _Screened:
    """Networks with measured or predicted accuracies of screening and promotion."""

    records: Sequence[TrialRecord]

    @cached_property
    def estimates(self) -> list[float]:
        return [r.selection_accuracy for r in self.records]

    def scored(self, i: int) -> Scored:
        record = self.records[i]
        mean = record.accuracy if record.predicted is None else record.predicted
        images, deviation = self._images(i), self._deviation(i)
        evaluation = record.evaluation
        effective = None if evaluation is None or images is None else evaluation.effective_images
        if record.predicted is None and effective is not None:
            low, high = measured_interval(mean, effective, deviation)
        else:
            low, high = interval_of(mean, deviation)
        return Scored(record, Interval(mean, low, high, images))

    def margin(self, i: int, j: int) -> Interval:
        mean = self.records[i].selection_accuracy - self.records[j].selection_accuracy
        deviations = self._deviation(i), self._deviation(j)
        return independent_difference(mean, *deviations, self._images(i))

    def basis(self, i: int) -> str:
        promoted = self.records[i].promotion is not None
        return str(Fidelity.PROMOTION if promoted else Fidelity.SCREENING)

    def predicted(self, i: int) -> bool:
        return self.records[i].predicted is not None

    def pixels(self, i: int) -> Size | None:
        evaluation = self.records[i].evaluation
        return None if evaluation is None else evaluation.pixels

    def _images(self, i: int) -> int | None:
        evaluation = self.records[i].evaluation
        if evaluation is None or evaluation.evaluator == TABLE:
            return None
        return evaluation.images

    def _deviation(self, i: int) -> float:
        record = self.records[i]
        assert record.evaluation is not None, "only networks with an accuracy are chosen from"
        if record.evaluation.evaluator == TABLE:
            return 0.0
        if record.predicted is not None and record.predicted_deviation is not None:
            return record.predicted_deviation
        if record.selection_noise is not None:
            return record.selection_noise
        images = record.evaluation.effective_images or USUAL_IMAGES
        return standard_error(record.selection_accuracy, images, SEED_DEVIATION)


@dataclass(frozen=True)
class _Trained:
    """Networks with accuracies measured after trainings by the full recipe.

    The deviation over seeds is pooled over `pool`, by default over the networks themselves.
    """

    trained: Sequence[tuple[TrialRecord, Trainings]]
    fidelity: str
    pool: Sequence[Trainings] = ()

    @cached_property
    def records(self) -> list[TrialRecord]:
        return [record for record, _ in self.trained]

    @cached_property
    def estimates(self) -> list[float]:
        return [trainings.mean for _, trainings in self.trained]

    def scored(self, i: int) -> Scored:
        record, trainings = self.trained[i]
        mean = self.estimates[i]
        low, high = measured_interval(mean, trainings.effective_images, self._deviation(i))
        return Scored(record, Interval(mean, low, high, trainings.images))

    def margin(self, i: int, j: int) -> Interval:
        return self.trained[i][1].margin(self.trained[j][1], self._seed_deviation)

    def basis(self, i: int) -> str:
        return self.fidelity

    def predicted(self, i: int) -> bool:
        return False

    def pixels(self, i: int) -> Size | None:
        return self.trained[i][1].pixels

    def _deviation(self, i: int) -> float:
        return self.trained[i][1].deviation(self._seed_deviation)

    @cached_property
    def _seed_deviation(self) -> float:
        own = [trainings for _, trainings in self.trained]
        return pooled_seed_deviation_of(self.pool or own)


@dataclass(frozen=True)
class _Shrunk(_Trained):
    """Networks with accuracies of finals, shrunk towards their common mean.

    All were scored on the same images. Predicted accuracies are no prior: the model was fitted to
    the finals.
    """

    @cached_property
    def _posterior(self) -> Posterior:
        networks = [t.image_scores for _, t in self.trained]
        level = sum(t.mean for _, t in self.trained) / len(self.trained)
        prior = [level] * len(networks)
        deviation = self._seed_deviation * level * (1 - level)
        effective = min(t.effective_images for _, t in self.trained)
        return posterior(networks, prior, deviation, effective=effective)

    @cached_property
    def estimates(self) -> list[float]:
        return [float(mean) for mean in self._posterior.mean]

    def margin(self, i: int, j: int) -> Interval:
        return Interval(*self._posterior.margin(i, j), self.trained[i][1].images)

    def _deviation(self, i: int) -> float:
        return math.sqrt(max(0.0, float(self._posterior.covariance[i, i])))


def screened_level(records: Sequence[TrialRecord]) -> FidelityLevel:
    """Return a level with the networks' accuracies from screening and promotion."""
    return _Screened(records)


def with_larger_references(findings: Findings, level: FidelityLevel, i: int) -> FidelityLevel:
    """Return a level of network `i`, followed by the references of larger cost.

    All are of the fidelity of network i. The references are within the limits of the study and one
    of its budgets, but not necessarily within the budget of the level.
    """
    chosen, basis = level.records[i], level.basis(i)

    def larger(record: TrialRecord) -> bool:
        return record.is_baseline and record.cost > chosen.cost

    if basis == RETRAINING:
        known = _retrained(findings)
        mine = [each for each in known if each[0].fingerprint == chosen.fingerprint]
        return _Trained([*mine, *(each for each in known if larger(each[0]))], basis)
    references = records_within([r for r in findings.references if larger(r)], findings.limits)
    if basis == Fidelity.FINAL:
        return _finals([chosen, *(r for r in references if r.finals)])
    if level.predicted(i):
        return _Screened([chosen, *(r for r in complete(references) if r.predicted is not None)])
    if basis == Fidelity.PROMOTION:
        references = [r.at_highest_fidelity for r in references if r.promotion is not None]
    return _Screened([chosen, *map(measured, complete(references))])


def retrained_accuracy(findings: Findings, fingerprint: str) -> Interval | None:
    """Return the test accuracy of a network after retraining; None if it was not retrained."""
    level = _Trained(_retrained(findings), RETRAINING)
    for i, record in enumerate(level.records):
        if record.fingerprint == fingerprint:
            return level.scored(i).accuracy
    return None


def finals_accuracies(findings: Findings) -> dict[int, Interval]:
    """Return the validation accuracy after the finals of each network in them, by trial."""
    level = _finals([r for r in findings.records if r.finals])
    return {r.trial: level.scored(i).accuracy for i, r in enumerate(level.records)}


def _finals(records: Sequence[TrialRecord]) -> FidelityLevel:
    """Return a level with the networks' accuracies in finals, paired by image if possible."""
    trained = [(record, trainings_of_finals(record.finals, record.score)) for record in records]
    paired = all(t.predictions for _, t in trained) and len({t.images for _, t in trained}) == 1
    basis = str(Fidelity.FINAL)
    return _Shrunk(trained, basis) if paired else _Trained(trained, basis)


def _retrained(findings: Findings) -> list[tuple[TrialRecord, Trainings]]:
    """Return the retrained networks within the limits, also references not in the search."""
    found: dict[str, tuple[TrialRecord, Trainings]] = {}
    rows = findings.retrained
    known = {r.fingerprint: r for r in findings.records} if rows else {}
    for row in rows:
        record = known.get(row.fingerprint) or _outside(row, findings.records)
        if record is None or not is_within(findings.limits, record.costs):
            continue
        found.setdefault(record.fingerprint, (record, trainings_of_retrained(row)))
    return list(found.values())


def _outside(row: Retrained, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return a record for a retrained reference outside the search; None for other networks."""
    if row.family not in (*DONORS, *COMPARED) or not records:
        return None
    network = row.architecture
    if network is None:  # a row of an older version
        classes = records[0].architecture.num_classes
        try:
            network = scaled_reference(row.family, row.alpha, row.resolution, classes)
        except SpecError:
            return None
    if network.fingerprint != row.fingerprint:
        return None
    return TrialRecord(
        UNTRIED,
        row.family,
        State.COMPLETE,
        network,
        row.costs,
        params={},
        metric=metric_of(records),
        score=score_of_study(records),
    )


def _no_answer(findings: Findings, records: Sequence[TrialRecord], budget: Budget) -> NoAnswerError:
    done = complete(list(records)) or complete(list(findings.records))
    if not done:
        return NoAnswerError(f"At {budget.label}: no network is trained yet")
    smallest = min(done, key=lambda r: budget.used_share(r.costs))
    needs = " and ".join(amount(m, smallest.costs[m]) for m in budget.bounds())
    return NoAnswerError(
        f"At {budget.label}: no trained network is within this budget; the smallest, "
        f"{smallest.label}, has {needs}"
    )
