"""Finals: trainings by the full recipe inside a search, which decide its answers.

A short training flatters fast learners, and a search finds what is flattered. So the most promising
candidates of each budget, and its strongest references, are trained by the recipe of `retrain:`
while the search still runs; what they reach corrects the model that steers the screening.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from mbsearch.config.budgets import Budget
from mbsearch.config.families import DONORS
from mbsearch.config.finals_settings import Finals
from mbsearch.study.records import Epoch, Evaluation, State, TrialRecord, complete

FIRST_FINAL = 0.4
"""Share of a search's trials after which the first final starts."""
MOST_MINUTES = 15.0
"""Bound on the time of finals where none is given."""
PLAN = "finals_plan"
"""User attribute of a study: the plan of its finals."""

_EPOCHS = (20, 16, 12, 10, 8, 6)  # lengths that a plan chooses from, for _IMAGES and more
_IMAGES = 5_000
_MOST_STRETCHED = 2.0  # fewer images have up to so many times the epochs
_CANDIDATES = 3  # a budget has so many at a plan's length, or a shorter length is chosen
_LEAST = 2  # networks a budget, or its answer is left to the trainings before
_RACING = 0.75  # share of its epochs that a final trains, on average, where racing stops some
_LOOK_FROM = 0.5  # share of the epochs before which no final is stopped
_MARGIN = 2.0  # standard errors of the validation accuracy
_FIXED = 9e5  # Mult-Adds that take as long as the part of a step that no network changes
_FAILED = 1e-9  # seconds: more than 0, which means that it runs
_WITHIN = 1.02  # of the planned time, so that rounding leaves out no network

Choose = Callable[[int, Collection[int]], TrialRecord | None]
"""The most promising candidate of a budget (its number) that is none of these trials, if any."""


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """Seconds of a training in a worker, which rise with the Mult-Adds of its images.

    A training of `n` images by a network of `m` Mult-Adds an image takes n * rate * (m + 0.9 M)
    seconds: a part of each step does not depend on the network (docs/sampler.md: from 0.4 M to 8 M
    a step takes 7 times as long).
    """

    rate: float

    @staticmethod
    def fit(records: Sequence[TrialRecord], images: int) -> TrainingTime | None:
        """The median rate over every training of a study; None before the first.

        `images` is the number of training images, which recipes without a limit use. The screenings
        of a budget cost much the same, so that only one parameter can be told from them.
        """
        rates = []
        for record in records:
            for evaluation in (record.evaluation, record.promotion, *record.finals):
                if evaluation is not None and evaluation.curve:
                    seen = min(evaluation.recipe.get("train_images") or images, images)
                    work = seen * len(evaluation.curve) * (_mult_adds(record, evaluation) + _FIXED)
                    rates.append(evaluation.seconds / work)
        return TrainingTime(median(rates)) if rates else None

    def seconds(self, images: int, mult_adds: float) -> float:
        """Of a training that sees so many images, at so many Mult-Adds each."""
        return images * self.rate * (mult_adds + _FIXED)


def _mult_adds(record: TrialRecord, evaluation: Evaluation) -> float:
    """Of one image at the pixels that a training used."""
    return record.mult_adds * (evaluation.pixels / record.architecture.resolution) ** 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How finals use their time: epochs of each, candidates a budget, and budgets that fit.

    `seconds` are those of all workers together. Budgets are numbered as in the settings; `asked`
    has the labels of all of them, and is empty in plans of older versions.
    """

    seconds: float
    epochs: int
    networks: int
    budgets: tuple[int, ...]
    asked: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for storage."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Plan:
        """Inverse of `to_dict`."""
        lists = {name: tuple(data.get(name, ())) for name in ("budgets", "asked")}
        return Plan(**{**data, **lists})

    def sentence(self, budgets: Sequence[Budget]) -> str:
        """The plan in words, with the budgets whose finals do not fit."""
        if not self.budgets:
            return "finals: no budget's finals fit the time; its answers rest on promotion"
        left_out = [b.label for i, b in enumerate(budgets) if i not in self.budgets]
        rest = f"; no time for those at {', '.join(left_out)}" if left_out else ""
        return (
            f"finals: about {self.networks} candidates a budget beside its strongest references, "
            f"{self.epochs} epochs each, {self.seconds / 60:.1f} min of worker time{rest}"
        )


@dataclass
class FinalRounds:
    """Which network of a study is to have a final next, and which final is stopped.

    Args:
        settings: time, networks and epochs, where they are given.
        budgets: of the study.
        images: training images of a final.
        share: mean of the squared shares of a network's resolution that the epochs use.
        choose: the most promising candidate of a budget.
    """

    settings: Finals
    budgets: Sequence[Budget]
    images: int
    share: Callable[[int], float]
    choose: Choose
    plan: Plan | None = None
    _begun: dict[int, float] = field(default_factory=dict)  # seconds by trial, or an estimate
    _curves: dict[int, tuple[TrialRecord, Sequence[Epoch]]] = field(default_factory=dict)

    @property
    def enabled(self) -> bool:
        """Whether the study has finals at all."""
        return bool(self.budgets) and self.settings.minutes != 0

    @property
    def needs_plan(self) -> bool:
        """Whether there is no plan yet, or one for other budgets."""
        return self.plan is None or self.plan.asked not in ((), self._asked)

    @property
    def _asked(self) -> tuple[str, ...]:
        return tuple(budget.label for budget in self.budgets)

    def make_plan(self, records: Sequence[TrialRecord], progress: float, slots: int) -> Plan:
        """Size the finals by what the trainings of the study have taken.

        Where a plan for other budgets was followed before, its finals count: they keep their
        length, and their time comes on top.

        Args:
            records: of the study.
            progress: the share of the search that has ended.
            slots: number of workers.
        """
        time = TrainingTime.fit(records, self.images)
        spent = sum(r.evaluation.seconds for r in records if not r.is_baseline and r.evaluation)
        given = self.settings.minutes
        allowed = 60 * slots * (MOST_MINUTES if given is None else given)
        if given is None:
            allowed = min(allowed, spent / max(progress, 1e-9))
        before = sum(self._begun.values())
        fitting = list(range(len(self.budgets)))
        fitting.sort(key=lambda i: _size(self.budgets[i]))
        while fitting and time is not None:
            each = allowed / len(fitting)
            epochs, networks = self._best_length(time, self.budgets[fitting[-1]], each, records)
            if networks >= _LEAST:
                numbers = tuple(sorted(fitting))
                found = Plan(before + allowed, epochs, max(1, networks - 1), numbers, self._asked)
                break
            fitting.pop()  # the largest budget's finals do not fit
        else:
            found = Plan(before + allowed, self._lengths()[-1], 0, (), self._asked)
        self.plan = found
        return found

    def _best_length(
        self, time: TrainingTime, budget: Budget, seconds: float, records: Sequence[TrialRecord]
    ) -> tuple[int, int]:
        """The longest training that leaves time for enough networks, and how many those are."""
        within = [r.mult_adds for r in complete(list(records)) if budget.excess(r.costs) is None]
        mult_adds = max(within, default=0)
        lengths = self._lengths()
        networks = 0
        for epochs in lengths:
            each = self._seconds(time, mult_adds, epochs) * _RACING
            networks = int(_WITHIN * seconds / each) if each > 0 else len(records)
            if networks >= 1 + (self.settings.networks or _CANDIDATES):
                return epochs, networks
        return lengths[-1], networks

    def _lengths(self) -> tuple[int, ...]:
        """Epochs to choose from, the most first."""
        if self.settings.epochs is not None:
            return (self.settings.epochs,)
        if self.plan is not None:
            return (self.plan.epochs,)
        stretch = min(max(_IMAGES / self.images, 1.0), _MOST_STRETCHED)
        return tuple(round(stretch * epochs) for epochs in _EPOCHS)

    def _seconds(self, time: TrainingTime, mult_adds: float, epochs: int) -> float:
        return epochs * time.seconds(self.images, mult_adds * self.share(epochs))

    def begin(self, record: TrialRecord) -> None:
        """Add a final that runs."""
        self._begun[record.trial] = 0.0

    def add(self, record: TrialRecord, evaluation: Evaluation) -> None:
        """Add a final that has completed or was pruned."""
        self._begun[record.trial] = evaluation.seconds
        self._curves[record.trial] = record, evaluation.curve

    def fail(self, trial: int) -> None:
        """Add a final that failed; its time is not charged."""
        self._begun[trial] = _FAILED

    def next(self, records: Sequence[TrialRecord], progress: float) -> TrialRecord | None:
        """The network to train by the full recipe now; None if none is due.

        Finals keep pace with the search: after `progress` of it, they have used as large a part of
        their time as has passed since the first final started.
        """
        plan = self.plan
        if plan is None or progress < FIRST_FINAL:
            return None
        time = TrainingTime.fit(records, self.images)
        if time is None:
            return None
        pace = (progress - FIRST_FINAL) / (1 - FIRST_FINAL)
        spent = self._spent(time, records)
        if spent > plan.seconds * pace or (self._begun and spent >= plan.seconds):
            return None
        for number in sorted(plan.budgets, key=lambda i: self._share_of(self.budgets[i], records)):
            record = self._next_of(number, records)
            if record is None:
                continue
            cost = self._seconds(time, record.mult_adds, plan.epochs) * _RACING
            if spent + cost <= _WITHIN * plan.seconds:
                return record
        return None

    def _next_of(self, number: int, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """References and candidates of a budget in turn: one reference, two candidates, ..."""
        budget = self.budgets[number]
        within = [r for r in complete(list(records)) if budget.excess(r.costs) is None]
        begun = [r for r in within if r.trial in self._begun]
        candidates = sum(not r.is_baseline for r in begun)
        references = [r for r in strongest(within) if r.trial not in self._begun]
        most = self.settings.networks
        wanted = 2 * (len(begun) - candidates) - candidates > 0 and candidates != most
        candidate = self.choose(number, self._begun) if wanted or not references else None
        if candidate is not None and (most is None or candidates < most):
            return candidate
        return references[0] if references else None

    def _share_of(self, budget: Budget, records: Sequence[TrialRecord]) -> int:
        """How many finals a budget has; one with none is served first."""
        known = {r.trial: r for r in records}
        begun = [known[trial] for trial in self._begun if trial in known]
        return sum(budget.excess(r.costs) is None for r in begun)

    def _spent(self, time: TrainingTime, records: Sequence[TrialRecord]) -> float:
        """Seconds of the finals that ended, and those that the running ones will take."""
        assert self.plan is not None
        known = {r.trial: r.mult_adds for r in records}
        running = (trial for trial, seconds in self._begun.items() if seconds == 0.0)
        owed = (self._seconds(time, known[t], self.plan.epochs) for t in running if t in known)
        return sum(self._begun.values()) + _RACING * sum(owed)

    def prune_reason(self, record: TrialRecord, curve: Sequence[Epoch], images: int) -> str | None:
        """Why a final is stopped after the last epoch of its curve; None if it goes on.

        It is stopped in its second half if another final of no larger cost was ahead of it at the
        same epoch by more than two standard errors of an accuracy of `images` validation images.
        """
        assert self.plan is not None
        if len(curve) < _LOOK_FROM * self.plan.epochs or len(curve) >= self.plan.epochs:
            return None
        accuracy = curve[-1].validation_accuracy
        ahead = self._ahead(record, len(curve))
        if ahead is None:
            return None
        error = math.sqrt(max(ahead * (1 - ahead), 1e-4) / max(images, 1))
        if ahead - accuracy <= _MARGIN * error:
            return None
        return (
            f"pruned after epoch {len(curve)} of {self.plan.epochs}: accuracy {accuracy:.3f}, "
            f"needs {ahead - _MARGIN * error:.3f}"
        )

    def forecast(self, record: TrialRecord, curve: Sequence[Epoch]) -> float | None:
        """Final accuracy of a pruned final: as far behind the best of no larger cost as it was."""
        rivals = [other for other in self._completed(record) if len(other) > len(curve)]
        if not rivals:
            return None
        best = max(rivals, key=lambda c: c[len(curve) - 1].validation_accuracy)
        gap = best[len(curve) - 1].validation_accuracy - curve[-1].validation_accuracy
        return max(0.0, best[-1].validation_accuracy - gap)

    def _ahead(self, record: TrialRecord, epoch: int) -> float | None:
        """The best accuracy after this epoch of finals of no larger cost, which have completed."""
        found = [c[epoch - 1].validation_accuracy for c in self._completed(record)]
        return max(found, default=None)

    def _completed(self, record: TrialRecord) -> list[Sequence[Epoch]]:
        assert self.plan is not None
        return [
            curve
            for other, curve in self._curves.values()
            if other.cost <= record.cost and len(curve) == self.plan.epochs
        ]


def strongest(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The best reference of each family, by the longest training that all have; the best first.

    A donor's own network comes before all: it is what one would train without a search, and starts
    slower than networks of a supernet.
    """
    references = [r for r in records if r.is_baseline and r.state is State.COMPLETE]
    best: dict[str, TrialRecord] = {}
    for record in sorted(references, key=lambda r: (-r.selection_accuracy, r.cost)):
        best.setdefault(record.origin, record)
    return sorted(best.values(), key=lambda record: record.origin not in DONORS)


def _size(budget: Budget) -> float:
    """What budgets are sorted by: their first bound, as its logarithm."""
    return math.log(next(iter(budget.bounds().values())))
