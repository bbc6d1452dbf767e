"""The answer to a question: the best network within a budget, and one text of it.

Networks are compared with networks of the same fidelity only. The highest fidelity that covers the
budget decides: retraining overrides finals, these override promotion, and promotion screening.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mbsearch.analysis.paired_comparison import Posterior, compare, posterior, seed_deviation_of
from mbsearch.analysis.tables import natural_budgets
from mbsearch.config.settings import Budget, Limits, Settings
from mbsearch.cost.units import NOUNS, amount, quantity, round_amounts
from mbsearch.errors import NoAnswerError, SpecError, StorageError
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import DONORS, FAMILIES, is_published, scaled_reference
from mbsearch.study.noise import (
    SEED_DEVIATION,
    interval_of,
    pooled_seed_deviation,
    standard_error,
)
from mbsearch.study.records import (
    TABLE,
    UNTRIED,
    Fidelity,
    Predictions,
    State,
    TrialRecord,
    complete,
    metric_of,
    shown,
)
from mbsearch.study.retrained_file import Retrained

RETRAINING = "retraining"
"""What an answer rests on that was trained again by the full recipe, and tested."""
TIED_WITHIN = 0.01
"""Networks are statistically tied where the whole interval of their difference lies within this."""

_Z_95 = 1.959963984540054
_REACH = 0.5  # finals decide if they reach this share of the budget that screening uses
_USUAL_IMAGES = 1000  # that an accuracy was measured on, where an old study does not tell


@dataclass(frozen=True, slots=True)
class Interval:
    """An accuracy, or a difference of two, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether there is no noise in it, as in a table."""
        return self.low == self.high

    @property
    def tied(self) -> bool:
        """Whether the whole interval lies within the stated margin."""
        return self.low >= -TIED_WITHIN and self.high <= TIED_WITHIN

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def ends(self) -> str:
        """Of an accuracy: ``0.721 to 0.778``."""
        return f"{self.low:.3f} to {self.high:.3f}"

    def in_points(self) -> str:
        """Of a difference: ``95 % interval +0.4 to +4.6, significant``, in percentage points."""
        verdict = "significant" if self.significant else "not significant"
        if self.tied:
            verdict = f"statistically tied within {_margin()}"
        return f"95 % interval {points(self.low)} to {points(self.high)}, {verdict}"


@dataclass(frozen=True, slots=True)
class Scored:
    """A network with its accuracy."""

    record: TrialRecord
    accuracy: Interval

    def brief(self) -> str:
        """``MobileNetV2 0.35/128 (12.6 M, 0.725)``."""
        return f"{self.record.label} ({self._facts()})"

    def _facts(self) -> str:
        return f"{quantity(self.record.metric, self.record.cost)}, {self.accuracy.mean:.3f}"


@dataclass(frozen=True, slots=True)
class Margin:
    """Accuracy of the answer minus that of another network, of the same fidelity.

    `published` says whether the other one is a reference as published, not scaled freely.
    """

    other: Scored
    difference: Interval
    published: bool

    def clause(self) -> str:
        """``+2.5 points over MobileNetV2 0.35/128 (12.6 M, 0.725; 95 % interval +0.4 to +4.6)``."""
        text = f"{points(self.difference.mean)} points over {self.other.record.described} ("
        text += f"{quantity(self.other.record.metric, self.other.record.cost)}, "
        text += f"{self.other.accuracy.mean:.3f}"
        if self.difference.exact:
            return f"{text})"
        return f"{text}; {self.difference.in_points()})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        record = self.other.record
        return {
            "name": record.label,
            "trial": _trial(record),
            "family": record.origin,
            "start": record.start and record.start.kind,
            "published": self.published,
            "costs": dict(record.costs),
            "accuracy": self.other.accuracy.mean,
            "difference": self.difference.mean,
            "low": self.difference.low,
            "high": self.difference.high,
            "significant": self.difference.significant,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """The best network within a budget, and its margins over the references.

    `basis` is the fidelity that it rests on, by its name, or `RETRAINING`; `predicted` says that
    the accuracies are a model's predictions for the study's highest fidelity. `pixels` is the side
    of the images trained on. `margins` has, of each reference family within the budget, the best
    reference, and the best published one where that is another. `cheaper` is the cheapest network
    that is as accurate within `TIED_WITHIN`, where there is one. `searched` is the margin over the
    best network of the search, where the answer is a reference. `unpromoted` are references that
    screening prefers to those of the margins, but that were not promoted as these were.
    """

    budget: Budget
    best: Scored
    basis: str
    predicted: bool
    pixels: int | None
    margins: tuple[Margin, ...]
    cheaper: Scored | None = None
    searched: Margin | None = None
    unpromoted: tuple[TrialRecord, ...] = ()

    @property
    def record(self) -> TrialRecord:
        """The record of the network; of number `UNTRIED` where only retraining trained it."""
        return self.best.record

    @property
    def name(self) -> str:
        """Name of the network in text."""
        return self.record.label

    @property
    def split(self) -> str:
        """The images that the accuracy was measured on: validation, or test."""
        return "test" if self.basis == RETRAINING else "validation"

    def sentence(self) -> str:
        """The answer in words.

        ``At 20 M Mult-Adds: trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (95 % interval
        0.721 to 0.778, finals); +2.5 points over MobileNetV2 0.35/128 (12.6 M, 0.725; 95 % interval
        +0.4 to +4.6, significant)``.
        """
        costs = " and ".join(amount(m, self.record.costs[m]) for m in self.budget.bounds())
        kind = f"{'predicted ' * self.predicted}{self.split} accuracy"
        accuracy = self.best.accuracy
        within = [] if accuracy.exact else [f"95 % interval {accuracy.ends()}"]
        notes = ", ".join([*within, self.basis, *self._pixels()])
        parts = [f"{self.name}, {costs}, {kind} {accuracy.mean:.3f} ({notes})"]
        if self.record.is_baseline:
            best = "" if self.searched is None else f": {self.searched.clause()}"
            parts.append(f"no searched network is better{best}")
        parts += [margin.clause() for margin in self.margins]
        if not self.margins and not self.record.is_baseline:
            parts.append(f"no MobileNet of this budget is known from {self.basis}")
        parts += [f"{each.label} may be better, but was not promoted" for each in self.unpromoted]
        if self.cheaper is not None:
            parts.append(f"{self.cheaper.brief()} is as accurate within {_margin()}")
        return f"At {self.budget.label}: {'; '.join(parts)}"

    def _pixels(self) -> list[str]:
        note = pixels_note(self.pixels, self.record.architecture)
        return [] if note is None else [note]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``mbsearch status --budget BUDGET --json`` prints it."""
        accuracy = self.best.accuracy
        return {
            "budget": self.budget.bounds(),
            "name": self.name,
            "trial": _trial(self.record),
            "origin": self.record.origin,
            "start": self.record.start and self.record.start.kind,
            "fingerprint": self.record.fingerprint,
            "architecture": self.record.architecture.to_dict(),
            "costs": dict(self.record.costs),
            "accuracy": accuracy.mean,
            "low": accuracy.low,
            "high": accuracy.high,
            "split": self.split,
            "basis": self.basis,
            "predicted": self.predicted,
            "pixels": self.pixels,
            "margins": [margin.to_dict() for margin in self.margins],
            "unpromoted": [each.label for each in self.unpromoted],
            "cheaper": None if self.cheaper is None else self.cheaper.record.label,
            "sentence": self.sentence(),
        }


def pixels_note(pixels: int | None, network: Architecture) -> str | None:
    """``trained at 56 px in place of 224``; None for a network trained at its own resolution."""
    if pixels is None or pixels == network.resolution:
        return None
    return f"trained at {pixels} px in place of {network.resolution}"


@dataclass(frozen=True)
class Findings:
    """What is known of a study: its records, what retraining left, its limits and its budgets."""

    records: Sequence[TrialRecord]
    retrained: Sequence[Retrained] = ()
    limits: Limits = field(default_factory=Limits)
    budgets: tuple[Budget, ...] = ()

    @cached_property
    def within(self) -> list[TrialRecord]:
        """The records within the limits and at least one budget: what is shown by default."""
        bounds = Settings(limits=self.limits, budgets=self.budgets)
        if not self.records or not _known_costs(self.records, [self.limits, *self.budgets]):
            return list(self.records)
        return [r for r in self.records if bounds.excess(r.costs) is None]

    @property
    def asked(self) -> tuple[Budget, ...]:
        """The budgets that the study was searched for: its own, else all its limits together."""
        return Settings(limits=self.limits, budgets=self.budgets).questions

    @cached_property
    def questions(self) -> tuple[Budget, ...]:
        """The budgets that are answered by default.

        Those that the study was searched for; else round amounts of the study's cost between the
        cheapest and the dearest reference; else between the cheapest and the dearest network.
        """
        if self.asked:
            return self.asked
        metric = metric_of(self.records)
        references = [r.cost for r in shown(self.records) if r.is_baseline]
        low, high = min(references, default=1), max(references, default=0)
        amounts = [round(a) for a in round_amounts(metric) if low <= a <= high]
        amounts = amounts or natural_budgets(self.records)
        return tuple(Budget.of({metric: each}) for each in amounts)

    @property
    def main(self) -> Budget | None:
        """The budget whose answer is a headline, and is exported by default.

        The first that the study was searched for, else the middle one of the round amounts; None
        before anything is trained.
        """
        if self.asked:
            return self.asked[0]
        return self.questions[len(self.questions) // 2] if self.questions else None


def findings_of(
    records: Sequence[TrialRecord],
    settings: Mapping[str, Any],
    retrained: Sequence[Retrained] = (),
) -> Findings:
    """What is known of a study, from its records and the settings that its storage keeps."""
    limits = (settings.get("stamp") or {}).get("limits", {})
    budgets = settings.get("budgets", ())
    return Findings(
        records,
        retrained,
        Limits.model_validate(limits),
        tuple(Budget.model_validate(each) for each in budgets),
    )


def answer(findings: Findings, budget: Budget) -> Answer:
    """The best network within a budget.

    Raises:
        NoAnswerError: no trained network keeps the budget; the cheapest is named.
        StorageError: the budget bounds a cost that the study does not know.
    """
    scale = _scale(findings, budget)
    indices = range(len(scale.records))
    best = _best(scale, indices)
    record = scale.records[best]
    searched = [i for i in indices if not scale.records[i].is_baseline]
    cheaper = _cheapest_as_accurate(scale, best)
    affordable = [r for r in findings.records if budget.excess(r.costs) is None]
    return Answer(
        budget=budget,
        best=scale.scored(best),
        basis=scale.basis(best),
        predicted=scale.predicted(best),
        pixels=scale.pixels(best),
        margins=tuple(_margins(scale, best)),
        cheaper=None if cheaper == best else scale.scored(cheaper),
        searched=(
            _margin_over(scale, best, _best(scale, searched), published=False)
            if record.is_baseline and searched
            else None
        ),
        unpromoted=tuple(_unpromoted(affordable, scale)) if isinstance(scale, _Screened) else (),
    )


def answers(findings: Findings, budgets: Sequence[Budget]) -> dict[Budget, Answer | str]:
    """The answer to each budget, or in a line why there is none; equal ones are computed once.

    Raises:
        StorageError: as `answer`.
    """
    found: dict[Budget, Answer | str] = {}
    known: dict[tuple[int, ...], Answer] = {}
    for budget in budgets:
        _require_known(findings.records, budget)
        within = tuple(
            i for i, r in enumerate(findings.records) if budget.excess(r.costs) is None
        ) + tuple(-1 - i for i, r in enumerate(findings.retrained) if _within(budget, r.costs))
        if within in known and tuple(known[within].budget.bounds()) == tuple(budget.bounds()):
            found[budget] = replace(known[within], budget=budget)
            continue
        try:
            found[budget] = known[within] = answer(findings, budget)
        except NoAnswerError as error:
            found[budget] = str(error)
    return found


def said(found: Answer | str) -> str:
    """An answer in words, or the line that says why there is none."""
    return found.sentence() if isinstance(found, Answer) else found


def answer_row(found: Answer | str, budget: Budget) -> dict[str, Any]:
    """An answer as plain data, or the line that says why there is none."""
    if isinstance(found, Answer):
        return found.to_dict()
    return {"budget": budget.bounds(), "name": None, "sentence": found}


def cheapest_tied(
    findings: Findings, record: TrialRecord, budget: Budget | None = None
) -> TrialRecord:
    """The cheapest network that is as accurate as `record` within `TIED_WITHIN`, and in the budget.

    It may be `record` itself. The budget is by default the cost of that.

    Raises:
        StorageError: the trial was not trained to the end.
    """
    for scale in reversed(_scales(findings, budget or budget_of(record))):
        for i, other in enumerate(scale.records):
            if other.fingerprint == record.fingerprint:
                return scale.records[_cheapest_as_accurate(scale, i)]
    raise StorageError(
        f"trial {record.trial}: expected a completed training to find networks that are as "
        "accurate, got none"
    )


def best_references(
    findings: Findings, budget: Budget, *, published: bool = False
) -> list[TrialRecord]:
    """Return the best reference of each family within a budget, the best family first.

    All are compared by the highest fidelity that trained a reference of every such family:
    retraining, finals, promotion or the model's prediction, else screening. `published` leaves out
    the references that are scaled freely.

    Raises:
        NoAnswerError, StorageError: as `answer`.
    """

    def families(scale: _Scale) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, r in enumerate(scale.records):
            if r.is_baseline and (not published or is_published(r.origin, r.architecture)):
                found.setdefault(r.origin, []).append(i)
        return found

    trained = [r for r in complete(list(findings.records)) if budget.excess(r.costs) is None]
    screened = [replace(r, promotion=None, expected=None) for r in trained]
    scales: list[_Scale] = [_Screened(screened), *_scales(findings, budget)]
    every = families(scales[0]).keys()
    scale = next(each for each in reversed(scales) if families(each).keys() >= every)
    best = [_best(scale, members) for members in families(scale).values()]
    return [scale.records[i] for i in sorted(best, key=scale.value, reverse=True)]


def budget_of(record: TrialRecord) -> Budget:
    """The budget that a network uses up: its cost."""
    return Budget.of({record.metric: record.cost})


def retrained_margin(first: Retrained, second: Retrained, among: Sequence[Retrained]) -> Interval:
    """Test accuracy of a retrained network minus that of another one.

    The deviation over seeds is pooled over all networks `among` which they are.
    """
    return _of(first).margin(_of(second), _seed_deviation_of([_of(each) for each in among]))


class _Scale(Protocol):
    """Networks whose accuracies are of one fidelity, by their index."""

    @property
    def records(self) -> Sequence[TrialRecord]: ...

    def value(self, i: int) -> float:
        """What the best network has most of."""

    def scored(self, i: int) -> Scored: ...

    def margin(self, i: int, j: int) -> Interval:
        """Accuracy of network i minus that of j."""

    def basis(self, i: int) -> str: ...

    def predicted(self, i: int) -> bool: ...

    def pixels(self, i: int) -> int | None: ...


def _scale(findings: Findings, budget: Budget) -> _Scale:
    """The networks that the answer is chosen from."""
    return _scales(findings, budget)[-1]


def _scales(findings: Findings, budget: Budget) -> list[_Scale]:
    """The fidelities that cover a budget, lowest first.

    Finals do if they include a searched network and reach at least half of the budget that
    screening reaches; retraining does if it includes the network that would be the answer without
    it.
    """
    records = [r for r in findings.records if _within(findings.limits, r.costs)]
    _require_known(findings.records, budget)
    screened = [r for r in _choosable(records) if budget.excess(r.costs) is None]
    if not screened:
        raise _no_answer(findings, records, budget)
    scales: list[_Scale] = [_Screened(screened)]
    finals = [r for r in records if r.finals and budget.excess(r.costs) is None]
    if _covers(finals, screened, budget):
        scales.append(_finals(finals))
    retrained = _retrained(findings, budget)
    chosen = scales[-1].records[_best(scales[-1], range(len(scales[-1].records)))]
    if chosen.fingerprint in {record.fingerprint for record, _ in retrained}:
        scales.append(_Trained(retrained, RETRAINING))
    return scales


def _covers(finals: Sequence[TrialRecord], screened: Sequence[TrialRecord], budget: Budget) -> bool:
    if not finals:
        return False
    if all(r.is_baseline for r in finals) and not all(r.is_baseline for r in screened):
        return False
    reached = max(budget.used_share(r.costs) for r in finals)
    return reached >= _REACH * max(budget.used_share(r.costs) for r in screened)


@dataclass(frozen=True)
class _Screened:
    """Networks by screening and promotion: their measured accuracies, or a model's predictions."""

    records: Sequence[TrialRecord]

    def value(self, i: int) -> float:
        return self.records[i].likely

    def scored(self, i: int) -> Scored:
        record = self.records[i]
        mean = record.accuracy if record.expected is None else record.expected
        low, high = interval_of(mean, self._deviation(i))
        return Scored(record, Interval(mean, low, high))

    def margin(self, i: int, j: int) -> Interval:
        mean = self.records[i].likely - self.records[j].likely
        return _independent(mean, self._deviation(i), self._deviation(j))

    def basis(self, i: int) -> str:
        promoted = self.records[i].promotion is not None
        return str(Fidelity.PROMOTION if promoted else Fidelity.SCREENING)

    def predicted(self, i: int) -> bool:
        return self.records[i].expected is not None

    def pixels(self, i: int) -> int | None:
        evaluation = self.records[i].evaluation
        return None if evaluation is None else evaluation.pixels

    def _deviation(self, i: int) -> float:
        record = self.records[i]
        assert record.evaluation is not None, "only networks with an accuracy are chosen from"
        if record.evaluation.evaluator == TABLE:
            return 0.0
        if record.expected is not None and record.expected_deviation is not None:
            return record.expected_deviation
        if record.likely_noise is not None:
            return record.likely_noise
        images = record.evaluation.images or _USUAL_IMAGES
        return standard_error(record.likely, images, SEED_DEVIATION)


@dataclass(frozen=True)
class _Trainings:
    """Trainings of one network, one a seed; predictions where all of them kept theirs."""

    accuracies: Sequence[float]
    predictions: Sequence[Predictions]
    pixels: int
    images: int

    @property
    def mean(self) -> float:
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def correct(self) -> list[NDArray[np.bool_]]:
        return [each.correct for each in self.predictions]

    def deviation(self, seed_deviation: float) -> float:
        """Standard deviation of the mean, from that over seeds on the logit scale."""
        over_seeds = seed_deviation / math.sqrt(len(self.accuracies))
        return standard_error(self.mean, self.images, over_seeds)

    def margin(self, other: _Trainings, seed_deviation: float) -> Interval:
        """Mean accuracy minus that of another network, paired by images where that can be done."""
        if self.predictions and other.predictions and self.images == other.images:
            paired = compare(self.correct, other.correct, seed_deviation)
            return Interval(paired.difference, paired.low, paired.high)
        deviations = self.deviation(seed_deviation), other.deviation(seed_deviation)
        return _independent(self.mean - other.mean, *deviations)


def _seed_deviation_of(networks: Sequence[_Trainings]) -> float:
    """Deviation over seeds on the logit scale, pooled over networks."""
    kept = [each.correct for each in networks if each.predictions]
    if kept:
        return seed_deviation_of(kept)
    images = min(each.images for each in networks)
    return pooled_seed_deviation([each.accuracies for each in networks], images)


@dataclass(frozen=True)
class _Trained:
    """Networks by trainings of the full recipe, as they were measured."""

    trained: Sequence[tuple[TrialRecord, _Trainings]]
    fidelity: str

    @property
    def records(self) -> Sequence[TrialRecord]:
        return [record for record, _ in self.trained]

    def value(self, i: int) -> float:
        return self.trained[i][1].mean

    def scored(self, i: int) -> Scored:
        mean = self.value(i)
        low, high = interval_of(mean, self._deviation(i))
        return Scored(self.trained[i][0], Interval(mean, low, high))

    def margin(self, i: int, j: int) -> Interval:
        return self.trained[i][1].margin(self.trained[j][1], self._seed_deviation)

    def basis(self, i: int) -> str:
        return self.fidelity

    def predicted(self, i: int) -> bool:
        return False

    def pixels(self, i: int) -> int | None:
        return self.trained[i][1].pixels

    def _deviation(self, i: int) -> float:
        return self.trained[i][1].deviation(self._seed_deviation)

    @cached_property
    def _seed_deviation(self) -> float:
        return _seed_deviation_of([trainings for _, trainings in self.trained])


@dataclass(frozen=True)
class _Posterior(_Trained):
    """Networks by finals, their accuracies shrunk towards the mean of all.

    All were scored on the same images. Predicted accuracies are no better prior: they have seen the
    finals already.
    """

    @cached_property
    def _posterior(self) -> Posterior:
        networks = [t.correct for _, t in self.trained]
        level = sum(t.mean for _, t in self.trained) / len(self.trained)
        prior = [level] * len(networks)
        return posterior(networks, prior, self._seed_deviation * level * (1 - level))

    def value(self, i: int) -> float:
        return float(self._posterior.mean[i])

    def margin(self, i: int, j: int) -> Interval:
        return Interval(*self._posterior.margin(i, j))

    def _deviation(self, i: int) -> float:
        return math.sqrt(max(0.0, float(self._posterior.covariance[i, i])))


def _finals(records: Sequence[TrialRecord]) -> _Scale:
    """Networks by their finals: paired by images, where all of them kept their predictions."""
    trained = []
    for record in records:
        kept = [e.predictions for e in record.finals if e.predictions is not None]
        predictions = kept if len(kept) == len(record.finals) else []
        trained.append(
            (
                record,
                _Trainings(
                    [e.accuracy for e in record.finals],
                    predictions,
                    record.finals[-1].pixels,
                    len(predictions[0].labels) if predictions else _USUAL_IMAGES,
                ),
            )
        )
    paired = all(t.predictions for _, t in trained) and len({t.images for _, t in trained}) == 1
    basis = str(Fidelity.FINAL)
    return _Posterior(trained, basis) if paired else _Trained(trained, basis)


def _retrained(findings: Findings, budget: Budget) -> list[tuple[TrialRecord, _Trainings]]:
    """The networks within a budget that retraining trained, references outside the study too."""
    found: dict[str, tuple[TrialRecord, _Trainings]] = {}
    known = {r.fingerprint: r for r in findings.records}
    for row in findings.retrained:
        record = known.get(row.fingerprint) or _outside(row, findings.records)
        if record is None or not _within(budget, record.costs):
            continue
        if not _within(findings.limits, record.costs):
            continue
        found.setdefault(record.fingerprint, (record, _of(row)))
    return list(found.values())


def _of(row: Retrained) -> _Trainings:
    images = len(row.predictions[0].labels) if row.predictions else row.images
    return _Trainings(row.accuracies, row.predictions, row.pixels, images or _USUAL_IMAGES)


def _outside(row: Retrained, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """The record of a reference that only retraining has trained; None for another network."""
    if row.family not in (*DONORS, *FAMILIES) or not records:
        return None
    network = row.architecture
    if network is None:  # of an older version, which kept only what it is made from
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
    )


def _best(scale: _Scale, among: Sequence[int]) -> int:
    """The network of the highest estimate; of equals the more accurate, then the cheaper."""

    def goodness(i: int) -> tuple[float, float, int]:
        record = scale.records[i]
        measured = 0.0 if record.evaluation is None else record.accuracy
        return scale.value(i), measured, -record.cost

    return max(among, key=goodness)


def _margins(scale: _Scale, best: int) -> list[Margin]:
    """Over the best of each reference family, and over its best published one."""
    chosen, found = scale.records[best], []
    for family in (*DONORS, *FAMILIES):
        members = [i for i, r in enumerate(scale.records) if r.origin == family and i != best]
        published = [i for i in members if is_published(family, scale.records[i].architecture)]
        strongest = _best(scale, members) if members and chosen.origin != family else None
        if strongest is not None:
            found.append(_margin_over(scale, best, strongest, strongest in published))
        if published and (other := _best(scale, published)) != strongest:
            found.append(_margin_over(scale, best, other, published=True))
    return found


def _unpromoted(records: Sequence[TrialRecord], scale: _Scale) -> list[TrialRecord]:
    """The most accurate reference of each family by screening, where it is not compared."""
    compared = {r.trial for r in scale.records}
    families = [[r for r in complete(list(records)) if r.origin == f] for f in (*DONORS, *FAMILIES)]
    best = [max(family, key=lambda r: (r.accuracy, -r.cost)) for family in families if family]
    return [r for r in best if r.trial not in compared]


def _margin_over(scale: _Scale, i: int, j: int, published: bool) -> Margin:
    return Margin(scale.scored(j), scale.margin(i, j), published)


def _cheapest_as_accurate(scale: _Scale, i: int) -> int:
    """The cheapest network that is at most `TIED_WITHIN` less accurate than i, with confidence."""
    value, cost = scale.value(i), scale.records[i].cost
    near = [
        j
        for j, record in enumerate(scale.records)
        if record.cost < cost and scale.value(j) >= value - TIED_WITHIN
    ]
    near.sort(key=lambda j: (scale.records[j].cost, -scale.value(j)))
    return next((j for j in near if scale.margin(j, i).low >= -TIED_WITHIN), i)


def _choosable(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records whose accuracies are of one fidelity, by measurement or by prediction.

    Predictions are for the longest training of the study. Without finals that is the one of the
    records that are shown, so that both are comparable; with finals it is not, and measurements are
    compared where a reference has no prediction.
    """
    measured = {r.trial: r for r in shown(records)}
    predicted = {r.trial: r for r in complete(list(records)) if r.expected is not None}
    if not any(r.finals for r in records):
        return list((predicted | measured).values())
    references = {r.trial for r in measured.values() if r.is_baseline}
    if predicted and references <= predicted.keys():
        return list(predicted.values())
    return [replace(r, expected=None, expected_deviation=None) for r in measured.values()]


def _no_answer(findings: Findings, records: Sequence[TrialRecord], budget: Budget) -> NoAnswerError:
    done = complete(list(records)) or complete(list(findings.records))
    if not done:
        return NoAnswerError(f"At {budget.label}: no network is trained yet")
    cheapest = min(done, key=lambda r: budget.used_share(r.costs))
    needs = " and ".join(amount(m, cheapest.costs[m]) for m in budget.bounds())
    return NoAnswerError(
        f"At {budget.label}: no trained network is within this budget; the cheapest, "
        f"{cheapest.label}, has {needs}"
    )


def _require_known(records: Sequence[TrialRecord], budget: Budget) -> None:
    """Refuse a bound on a cost that the study does not know."""
    for metric in budget.bounds():
        if records and any(metric not in r.costs for r in records):
            raise StorageError(
                f"expected a study that knows {NOUNS[metric]}, got one without: it was searched "
                "by other objectives and limits"
            )


def _known_costs(records: Sequence[TrialRecord], bounds: Sequence[Limits | Budget]) -> bool:
    bounded = {metric for each in bounds for metric in each.bounds()}
    return all(bounded <= r.costs.keys() for r in records)


def _within(bounds: Limits | Budget, costs: Mapping[str, int]) -> bool:
    """Whether a network keeps every bound on a cost that is known of it."""
    return all(costs[m] <= bound for m, bound in bounds.bounds().items() if m in costs)


def _independent(mean: float, first: float, second: float) -> Interval:
    """A difference of two independent accuracies, from their standard deviations."""
    half = _Z_95 * math.hypot(first, second)
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half))


def _trial(record: TrialRecord) -> int | None:
    return None if record.trial == UNTRIED else record.trial


def points(difference: float) -> str:
    """A difference of accuracies in percentage points, with its sign."""
    return f"{100 * difference + 0.0:+.1f}"


def _margin() -> str:
    return f"{100 * TIED_WITHIN:g} point"
