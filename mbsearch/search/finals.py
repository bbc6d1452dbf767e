"""Finals: trainings by the full recipe during a search, on which its answers are based.

A short training favours fast learners, and a search selects them. So the most promising candidates
of each budget, and its strongest references, are trained by the recipe of `retrain:` during the
search. Their accuracies correct the model that selects candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from time import monotonic

from mbsearch.config.budgets import Budget
from mbsearch.config.families import DONORS
from mbsearch.config.finals_settings import DEFAULT_MINUTES, Finals
from mbsearch.search.finals_plan import Plan, TrainingTime
from mbsearch.study.records import Epoch, Evaluation, State, TrialRecord, complete

FIRST_FINAL = 0.4
"""Share of a search's trials after which the first final starts."""

_EPOCHS = (20, 16, 12, 10, 8, 6)  # lengths to choose from with at least _IMAGES images
_IMAGES = 5_000
_MOST_STRETCHED = 2.0  # largest factor of the lengths with fewer images
_CANDIDATES = 3  # a budget; with less time for each, a shorter length is chosen
_LEAST = 2  # networks of a budget; with time for fewer, it has no finals
_RACING = 0.75  # mean share of its epochs that a final trains, as some are pruned
_LOOK_FROM = 0.5  # share of the epochs before which no final is pruned
_MARGIN = 2.0  # standard errors of the validation accuracy
_WITHIN = 1.02  # tolerance of the planned time, so that rounding excludes no network

Choose = Callable[[int, Collection[int]], TrialRecord | None]
"""A function from a budget's number to its most promising candidate, these trials excluded."""


@dataclass(slots=True)
class _Begun:
    """A final that has begun: its budget's label, its start, and its seconds after its end."""

    budget: str | None
    started: float
    seconds: float | None = None


@dataclass
class FinalRounds:
    """Schedules the finals of a study, and decides which of them are pruned.

    Args:
        settings: time, networks and epochs, if they are given.
        budgets: budgets of the study.
        images: number of training images of a final.
        share: function from epochs to the mean squared share of the resolution that they use.
        choose: function that returns the most promising candidate of a budget.
        plan: plan of an earlier run, if there is one.
        trials: number of search trials of the study; None without a limit.
        timed: whether a time alone bounds the search, so that each run has a plan of its own.
        clock: function that returns the present time in seconds.
    """

    settings: Finals
    budgets: Sequence[Budget]
    images: int
    share: Callable[[int], float]
    choose: Choose
    plan: Plan | None = None
    trials: int | None = None
    timed: bool = False
    clock: Callable[[], float] = monotonic
    _begun: dict[int, _Begun] = field(default_factory=dict)  # by trial
    _curves: dict[int, tuple[TrialRecord, Sequence[Epoch]]] = field(default_factory=dict)
    _planned_now: bool = False

    @property
    def enabled(self) -> bool:
        """Whether the study has finals."""
        return bool(self.budgets) and self.settings.minutes != 0

    @property
    def in_every_budget(self) -> bool:
        """Whether there is a plan with finals in each of the budgets."""
        plan = self.plan
        return plan is not None and len(plan.positions(self.budgets)) == len(self.budgets)

    @property
    def needs_plan(self) -> bool:
        """Whether there is no plan, or the study has more budgets, trials or minutes than it."""
        plan, minutes = self.plan, self.settings.minutes
        if plan is None or (self.timed and not self._planned_now):
            return True
        if plan.asked and any(budget.label not in plan.asked for budget in self.budgets):
            return True
        if plan.trials is None:
            return False
        longer = minutes is not None and minutes > (plan.minutes or DEFAULT_MINUTES)
        return longer or (self.trials is not None and self.trials > plan.trials)

    def make_plan(self, records: Sequence[TrialRecord], progress: float, slots: int) -> Plan:
        """Choose the length and number of finals from the durations of earlier trainings.

        A plan after another keeps its length, and adds its time to that of the earlier finals.

        Args:
            records: records of the study.
            progress: share of the search that is over.
            slots: number of workers.
        """
        time = TrainingTime.fit(records, self.images)
        spent = sum(r.evaluation.seconds for r in records if not r.is_baseline and r.evaluation)
        allowed = self._allowed(spent / max(progress, 1e-9), slots)
        before = self.spent(records)
        fitting = list(range(len(self.budgets)))
        fitting.sort(key=lambda i: _size(self.budgets[i]))
        while fitting and time is not None:
            budgets = [self.budgets[i] for i in fitting]
            epochs, networks = self._best_length(time, budgets, allowed, records)
            if networks >= _LEAST:
                break
            fitting.pop()  # the largest budget's finals do not fit
        else:
            epochs, networks = self._lengths()[-1], 1
        fitted = [] if time is None else [self.budgets[i].label for i in fitting]
        plan = Plan(
            seconds=before + allowed,
            epochs=epochs,
            networks=networks - 1,
            budgets=tuple(i for i, b in enumerate(self.budgets) if b.label in fitted),
            asked=tuple(budget.label for budget in self.budgets),
            trials=sum(not r.is_baseline for r in records) if self.trials is None else self.trials,
            minutes=allowed / slots / 60
            if self.settings.minutes is None
            else self.settings.minutes,
            added=allowed,
        )
        self.plan = plan if self.plan is None else plan.after(self.plan)
        self._planned_now = True
        return self.plan

    def _allowed(self, searching: float, slots: int) -> float:
        """Return the finals' worker seconds, given those of the candidates' other trainings."""
        given = self.settings.minutes
        most = 60 * slots * (DEFAULT_MINUTES if given is None else given)
        return most if given is not None else min(most, searching)

    def _best_length(
        self,
        time: TrainingTime,
        budgets: Sequence[Budget],
        seconds: float,
        records: Sequence[TrialRecord],
    ) -> tuple[int, int]:
        """Return the most epochs that leave time for enough networks, and the networks per budget.

        Each budget has as many networks as the others; those of larger budgets take longer.
        """
        finished = complete(list(records))
        largest = [
            max((r.mult_adds for r in finished if budget.excess(r.costs) is None), default=0)
            for budget in budgets
        ]
        lengths = self._lengths()
        networks = 0
        for epochs in lengths:
            each = _RACING * sum(self._seconds(time, m, epochs) for m in largest)
            networks = int(_WITHIN * seconds / each) if each > 0 else len(records)
            if networks >= 1 + (self.settings.networks or _CANDIDATES):
                return epochs, networks
        return lengths[-1], networks

    def _lengths(self) -> tuple[int, ...]:
        """Return the possible numbers of epochs, in descending order."""
        if self.settings.epochs is not None:
            return (self.settings.epochs,)
        if self.plan is not None and self._begun:
            return (self.plan.epochs,)
        stretch = min(max(_IMAGES / self.images, 1.0), _MOST_STRETCHED)
        return tuple(round(stretch * epochs) for epochs in _EPOCHS)

    def _seconds(self, time: TrainingTime, mult_adds: float, epochs: int) -> float:
        return epochs * time.seconds(self.images, mult_adds * self.share(epochs))

    def begin(self, record: TrialRecord, budget: str | None) -> None:
        """Register a final as running, for the budget with this label.

        Studies of older versions do not have the label: the smallest budget that holds the network
        takes its place.
        """
        if budget is None:
            fitting = [each for each in self.budgets if each.excess(record.costs) is None]
            budget = min(fitting, key=_size).label if fitting else None
        self._begun[record.trial] = _Begun(budget, self.clock())

    def add(self, record: TrialRecord, evaluation: Evaluation) -> None:
        """Add the evaluation of a final that was completed or pruned."""
        self._begun[record.trial].seconds = evaluation.seconds
        self._curves[record.trial] = record, evaluation.curve

    def fail(self, trial: int) -> None:
        """Register a final as failed; its time is not charged."""
        self._begun[trial].seconds = 0.0

    def next(
        self, records: Sequence[TrialRecord], progress: float
    ) -> tuple[TrialRecord, str] | None:
        """Return the network whose final begins now, and its budget's label; or None.

        Finals keep pace with the search: the share of their time that is used is at most the share
        of the search since FIRST_FINAL that is over. The budget with the fewest finals is next.
        """
        plan = self.plan
        if plan is None or progress < FIRST_FINAL:
            return None
        time = TrainingTime.fit(records, self.images)
        if time is None:
            return None
        pace = (progress - FIRST_FINAL) / (1 - FIRST_FINAL)
        spent = self.spent(records)
        if spent > plan.seconds * pace or (self._begun and spent >= plan.seconds):
            return None
        numbers = plan.positions(self.budgets)
        for number in sorted(numbers, key=lambda i: len(self._begun_for(self.budgets[i]))):
            record = self._next_of(number, records)
            if record is None:
                continue
            cost = self._seconds(time, record.mult_adds, plan.epochs) * _RACING
            if spent + cost <= _WITHIN * plan.seconds:
                return record, self.budgets[number].label
        return None

    def _next_of(self, number: int, records: Sequence[TrialRecord]) -> TrialRecord | None:
        """Return the next network of a budget: a reference, then two candidates, and so on."""
        budget = self.budgets[number]
        within = [r for r in complete(list(records)) if budget.excess(r.costs) is None]
        own = self._begun_for(budget)
        begun = [r for r in records if r.trial in own]
        candidates = sum(not r.is_baseline for r in begun)
        references = [r for r in strongest(within) if r.trial not in self._begun]
        most = self.settings.networks
        wanted = 2 * (len(begun) - candidates) - candidates > 0 and candidates != most
        candidate = self.choose(number, self._begun) if wanted or not references else None
        if candidate is not None and (most is None or candidates < most):
            return candidate
        return references[0] if references else None

    def _begun_for(self, budget: Budget) -> set[int]:
        """Return the trials whose final was begun for a budget.

        A larger budget also contains the networks of the smaller ones, but they are not its finals.
        """
        return {trial for trial, final in self._begun.items() if final.budget == budget.label}

    def spent(self, records: Sequence[TrialRecord]) -> float:
        """Return the seconds of all finals: measured, or predicted for running ones."""
        return self._measured() + sum(self._predicted(records).values())

    def taken(self) -> float:
        """Return the seconds that all finals have taken so far, running ones from their start."""
        running = (f.started for f in self._begun.values() if f.seconds is None)
        return self._measured() + sum(self.clock() - started for started in running)

    def _measured(self) -> float:
        return sum(final.seconds or 0.0 for final in self._begun.values())

    def _predicted(self, records: Sequence[TrialRecord]) -> dict[int, float]:
        """Return the predicted seconds of the running finals, by trial."""
        running = {t for t, final in self._begun.items() if final.seconds is None}
        time = TrainingTime.fit(records, self.images) if running else None
        if time is None or self.plan is None:
            return {}
        epochs = self.plan.epochs
        return {
            r.trial: _RACING * self._seconds(time, r.mult_adds, epochs)
            for r in records
            if r.trial in running
        }

    def seconds_left(self, records: Sequence[TrialRecord], searching: float, slots: int) -> float:
        """Return the worker seconds that running finals and those to come still have, at most.

        Args:
            records: records of the study.
            searching: predicted worker seconds of the candidates' other trainings.
            slots: number of workers.
        """
        if not self.enabled:
            return 0.0
        now, predicted = self.clock(), self._predicted(records)
        running = sum(max(0.0, s - now + self._begun[t].started) for t, s in predicted.items())
        if self.plan is None or self.needs_plan:
            return running + self._allowed(searching, slots)
        if not self.plan.positions(self.budgets):
            return running
        return running + max(0.0, self.plan.seconds - self._measured() - sum(predicted.values()))

    def prune_reason(self, record: TrialRecord, curve: Sequence[Epoch], images: int) -> str | None:
        """Return why a final is pruned after its last epoch, or None to continue.

        A final is pruned in its second half if the accuracy of another final of at most its cost
        was higher at the same epoch by more than two standard errors over `images` images.
        """
        assert self.plan is not None
        if len(curve) < _LOOK_FROM * self.plan.epochs or len(curve) >= self.plan.epochs:
            return None
        accuracy = curve[-1].validation_accuracy
        ahead = self._best_at(record, len(curve))
        if ahead is None:
            return None
        images = max(1, curve[-1].effective_images or images)
        error = math.sqrt(max(ahead * (1 - ahead), 1e-4) / images)
        if ahead - accuracy <= _MARGIN * error:
            return None
        return (
            f"pruned after epoch {len(curve)} of {self.plan.epochs}: {record.score.noun} "
            f"{accuracy:.3f}, needs {ahead - _MARGIN * error:.3f}"
        )

    def forecast(self, record: TrialRecord, curve: Sequence[Epoch]) -> float | None:
        """Predict the accuracy that a pruned final would have had; None if unknown.

        The prediction assumes that its distance to the best completed final of at most its cost
        stays the same. It is None without such a final.
        """
        others = [other for other in self._completed(record) if len(other) > len(curve)]
        if not others:
            return None
        best = max(others, key=lambda c: c[len(curve) - 1].validation_accuracy)
        gap = best[len(curve) - 1].validation_accuracy - curve[-1].validation_accuracy
        return max(0.0, best[-1].validation_accuracy - gap)

    def _best_at(self, record: TrialRecord, epoch: int) -> float | None:
        """Return the best accuracy at an epoch, among completed finals of at most this cost."""
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
    """Return the best reference of each family; the donor's own network comes first.

    References are compared by predicted or measured accuracy. The donor's network is what one would
    train without a search, and it learns more slowly at first than networks of a supernet.
    """
    references = [r for r in records if r.is_baseline and r.state is State.COMPLETE]
    best: dict[str, TrialRecord] = {}
    for record in sorted(references, key=lambda r: (-r.selection_accuracy, r.cost)):
        best.setdefault(record.origin, record)
    return sorted(best.values(), key=lambda record: record.origin not in DONORS)


def _size(budget: Budget) -> float:
    """Return a budget's sort key: the logarithm of its first bound."""
    return math.log(next(iter(budget.bounds().values())))
