"""Promotion: a longer training of the best networks at the end of a search.

The best of many noisy accuracies is partly the luckiest, and short trainings rank networks
otherwise than long ones. So a search ends with a longer training of its front, of the MobileNets of
the same cost and at round budgets, and of further contenders for the front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import ndtr

from mbsearch.analysis.calibration import Calibration
from mbsearch.analysis.findings import natural_budgets
from mbsearch.analysis.pareto import hypervolume, hypervolume_history, pareto_front
from mbsearch.analysis.reference_families import best_by_screening
from mbsearch.config.promotion_settings import Promotion
from mbsearch.study.log_odds import logit
from mbsearch.study.records import Evaluation, TrialRecord, complete

# A network is not promoted if its probability of beating the front at its cost is lower than this.
LEAST_CHANCE = 0.05

# A network of the front that adds less than this share of its hypervolume may be there by chance.
# It is promoted as a contender only.
LEAST_GAIN = 0.001

# If the share does not pay for the front, fewer of its networks are promoted, which lose at most
# this part of its hypervolume.
MOST_LEFT_OUT = 0.01

# Contenders and references at round budgets may each cost at most this part of what is left of the
# share. Otherwise one large network takes it all, and trains alone at the end.
MOST_OF_THE_REST = 0.5


@dataclass
class Promotions:
    """Selects the networks of a study to promote, within a share of its work.

    Work is measured in Mult-Adds times images, which is the same on every machine. Pruned trials
    count as complete, so that the work saved by racing may go into promotion.

    Args:
        settings: share of the work, and length of a promotion in screenings.
        records: records of the whole study.
        begun: trials whose promotion has begun, has completed or has failed.
        repeated: the network whose repeats measure the noise, if there is one.
        repeats: number of repeats of its promotion that have not begun.
        repeats_work: Mult-Adds of the repeats that have begun.
        budgets: bounds of the study's budgets on its cost; if empty, round budgets are used.
    """

    settings: Promotion
    records: Sequence[TrialRecord]
    begun: set[int] = field(default_factory=set)
    repeated: TrialRecord | None = None
    repeats: int = 0
    repeats_work: int = 0
    budgets: Sequence[int] = ()

    @property
    def affordable(self) -> bool:
        """Whether the allowed share of the work is enough for all required promotions."""
        return self._affords(self.required() + self._missing_repeats())

    @property
    def needed(self) -> float:
        """Share of the study's work that the required promotions need."""
        short, longer = self._work()
        required = self.required() + self._missing_repeats()
        longer += self.settings.longer * sum(r.mult_adds for r in required)
        return longer / max(1, longer + short)

    def predict(self, accuracies: Mapping[int, float]) -> None:
        """Set the accuracies predicted for the end of the screening, by trial.

        They rank the contenders. The required promotions depend on measured accuracies.
        """
        self.records = [replace(r, predicted=accuracies.get(r.trial)) for r in self.records]

    def next(self) -> tuple[TrialRecord, bool] | None:
        """Return the next network to promote, and whether it is a repeat; or None.

        None if no network has a chance to improve the front, or the share is used up.
        """
        if required := self.required():
            chosen, repeat = required[0], False
        elif self.repeated is not None and self.repeats > 0:
            chosen, repeat = self.repeated, True
        elif (other := self._reference_at_a_budget() or self._contender()) is not None:
            chosen, repeat = other, False
        else:
            return None
        return (chosen, repeat) if self._affords([chosen]) else None

    def begin(self, record: TrialRecord, repeat: bool) -> None:
        """Register a promotion, or a repeat of one, as begun."""
        if repeat:
            self.repeats -= 1
            self.repeats_work += record.mult_adds
        else:
            self.begun.add(record.trial)

    def add(self, trial: int, evaluation: Evaluation) -> None:
        """Add the evaluation of a completed promotion."""
        self.records = [
            replace(r, promotion=evaluation) if r.trial == trial else r for r in self.records
        ]

    def required(self) -> list[TrialRecord]:
        """Return the networks that must be promoted and whose promotion has not begun.

        These are the networks that make up the front's hypervolume, or fewer if the share does not
        pay for all; the MobileNets of their costs; and the network whose repeats measure the noise.
        They are sorted by the hypervolume that each adds to those before it, so that an interrupted
        run has promotions of all costs.
        """
        done = complete(list(self.records))
        front = _spread(
            [done[i] for i in pareto_front([r.accuracy for r in done], [r.cost for r in done])]
        )
        required: list[TrialRecord] = []
        for count in _counts(front):
            required = self._waiting(done, front[:count])
            if self._affords(required + self._missing_repeats()):
                break
        return _spread(required)

    def _waiting(
        self, done: Sequence[TrialRecord], front: Sequence[TrialRecord]
    ) -> list[TrialRecord]:
        """Return networks not yet begun: the front's, their MobileNets and the repeated one."""
        best = self.begun | {r.trial for r in front}
        budgets = {r.cost for r in done if not r.is_baseline and r.trial in best}
        references = [
            each
            for budget in budgets
            for each in best_by_screening([r for r in done if r.cost <= budget])
        ]
        chosen = [*front, *references] + ([] if self.repeated is None else [self.repeated])
        return list({r.trial: r for r in chosen if r.trial not in self.begun}.values())

    def _missing_repeats(self) -> list[TrialRecord]:
        return [] if self.repeated is None else [self.repeated] * self.repeats

    def _reference_at_a_budget(self) -> TrialRecord | None:
        """Return a MobileNet to promote for comparison with answers for budgets, or None.

        It may cost more than the best candidate within the budget.
        """
        short = [replace(r, promotion=None) for r in self.records]
        chosen = [r for r in short if r.trial in self.begun and not r.is_baseline]
        limit = MOST_OF_THE_REST * self._left()
        for budget in self.budgets or natural_budgets(short):
            if budget < 2 * max((r.cost for r in chosen), default=0):
                for reference in best_by_screening([r for r in short if r.cost <= budget]):
                    if reference.trial not in self.begun and reference.mult_adds <= limit:
                        return reference
        return None

    def _contender(self) -> TrialRecord | None:
        """Return the network with the largest expected improvement over promoted ones, or None.

        It uses the predicted accuracies of screenings, which correlate better with promotions than
        measured ones. None if no network has a chance to improve the front.
        """
        promoted = [(r, r.promotion.accuracy) for r in self.records if r.promotion is not None]
        calibration = Calibration.between(
            [r.selection_accuracy for r, _ in promoted], [after for _, after in promoted]
        )
        if calibration is None:
            return None
        best, most, limit = None, 0.0, MOST_OF_THE_REST * self._left()
        for record in complete(list(self.records)):
            if record.is_baseline or record.trial in self.begun or record.mult_adds > limit:
                continue
            promoted_logits = [logit(after) for r, after in promoted if r.cost <= record.cost]
            if not promoted_logits:
                continue
            lead = calibration.logit_of(record.selection_accuracy) - max(promoted_logits)
            z = lead / calibration.spread
            gain = z * float(ndtr(z)) + math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
            if gain > most and ndtr(z) >= LEAST_CHANCE:
                best, most = record, gain
        return best

    def _affords(self, records: Sequence[TrialRecord]) -> bool:
        """Return whether the rest of the share is enough to promote these networks."""
        return sum(r.mult_adds for r in records) <= self._left()

    def _left(self) -> float:
        """Return the total Mult-Adds of networks that can still be promoted within the share."""
        short, longer = self._work()
        share = self.settings.allowed
        return (share / (1 - share) * short - longer) / self.settings.longer

    def _work(self) -> tuple[int, int]:
        """Return the work of the screenings, and of the promotions that have begun."""
        trained = (r for r in self.records if not r.is_baseline and r.evaluation is not None)
        begun = (r for r in self.records if r.trial in self.begun)
        longer = self.repeats_work + sum(r.mult_adds for r in begun)
        return sum(r.mult_adds for r in trained), self.settings.longer * longer


def _spread(records: list[TrialRecord]) -> list[TrialRecord]:
    """Sort records greedily by the hypervolume that each adds to those before it, descending."""
    left = sorted(records, key=lambda r: (r.cost, r.trial))
    ordered: list[TrialRecord] = []

    def volume(record: TrialRecord) -> float:
        return hypervolume(*_columns([*ordered, record]), _worst(records))

    while left:
        ordered.append(left.pop(max(range(len(left)), key=lambda i: volume(left[i]))))
    return ordered


def _counts(front: Sequence[TrialRecord]) -> range:
    """Return how many leading networks of a `_spread` front may stand for it, most first."""
    if not front:
        return range(1)
    volumes = hypervolume_history(*_columns(front), _worst(front))
    before = np.append(0.0, volumes[:-1])
    most = int(np.sum(volumes - before >= LEAST_GAIN * before))
    fewest = 1 + int(np.argmax(volumes >= (1 - MOST_LEFT_OUT) * volumes[-1]))
    return range(most, min(most, fewest) - 1, -1)


def _columns(records: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
    return [r.accuracy for r in records], [math.log10(r.cost) for r in records]


def _worst(records: Sequence[TrialRecord]) -> tuple[float, float]:
    """Return the hypervolume's reference point: accuracy and log10 cost."""
    return 0.0, math.log10(2 * max(r.cost for r in records))
