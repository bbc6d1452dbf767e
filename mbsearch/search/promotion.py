"""Promotion: the best networks of a search are trained longer, and judged by that.

The best of many noisy scores is in part the luckiest, and a short training does not rank as a long
one does. So a search ends with a second, longer training of few: of its front, of the MobileNets
of the same cost and at round budgets, and of what may belong to the front after all.
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

# A network that would beat the front at its cost with less probability than this is left alone.
LEAST_CHANCE = 0.05

# A network of the front that adds less than this part of its hypervolume may be there by luck: it
# is promoted if it has a chance, as one behind the front is.
LEAST_GAIN = 0.001

# Where the share does not pay for that, it is spent on fewer of the front, which leave out no more
# than this part of its hypervolume.
MOST_LEFT_OUT = 0.01

# What may belong to the front, or is only compared with, is promoted for no more than this part of
# what is left of the share: otherwise one dear network takes it all, and at the end trains alone.
MOST_OF_THE_REST = 0.5


@dataclass
class Promotions:
    """Which networks of a study are to be trained longer, and how far its share of the work goes.

    Work is reckoned in Mult-Adds times images: unlike seconds, the same on every machine. Trials
    that were stopped early count as whole, so what racing saves may go into promotion.

    Args:
        records: of the whole study.
        begun: trials whose longer training has begun, those included where it has ended or failed.
        repeated: the network whose repeats measure the noise; None where there is none.
        repeats: how often, beside once, it is still to be trained longer for that.
        repeats_work: Mult-Adds of those repeats that have begun.
        budgets: bounds of the study's budgets on its cost; without any, round ones.
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
        """Whether the share pays for all that must be promoted together: half a front is none."""
        return self._affords(self.required() + self._owed_repeats())

    @property
    def needed(self) -> float:
        """The share of all work that what must be promoted together takes."""
        short, longer = self._work()
        owed = self.required() + self._owed_repeats()
        longer += self.settings.longer * sum(r.mult_adds for r in owed)
        return longer / max(1, longer + short)

    def predict(self, accuracies: Mapping[int, float]) -> None:
        """Set the predicted accuracies after the screening, by trial.

        They rank the contenders; what must be promoted follows from measured accuracies.
        """
        self.records = [replace(r, predicted=accuracies.get(r.trial)) for r in self.records]

    def next(self) -> tuple[TrialRecord, bool] | None:
        """The network to train longer next, and whether it only repeats one for the noise.

        None where none is worth it, or the share is used up.
        """
        if owed := self.required():
            chosen, repeat = owed[0], False
        elif self.repeated is not None and self.repeats > 0:
            chosen, repeat = self.repeated, True
        elif (other := self._rival_at_a_budget() or self._contender()) is not None:
            chosen, repeat = other, False
        else:
            return None
        return (chosen, repeat) if self._affords([chosen]) else None

    def begin(self, record: TrialRecord, repeat: bool) -> None:
        """Take up that a network is in longer training."""
        if repeat:
            self.repeats -= 1
            self.repeats_work += record.mult_adds
        else:
            self.begun.add(record.trial)

    def add(self, trial: int, evaluation: Evaluation) -> None:
        """Take up the outcome of a longer training."""
        self.records = [
            replace(r, promotion=evaluation) if r.trial == trial else r for r in self.records
        ]

    def required(self) -> list[TrialRecord]:
        """What is still to be promoted in any case: the front, and the MobileNets of its costs.

        The front is that part of it which makes its hypervolume, and less of it where the share
        does not pay for that. Of the network that shows the noise, the first training is among
        them. First comes what adds most hypervolume to what stands before it, so that a search
        that is cut off has networks of all costs.
        """
        done = complete(list(self.records))
        front = _spread(
            [done[i] for i in pareto_front([r.accuracy for r in done], [r.cost for r in done])]
        )
        owed: list[TrialRecord] = []
        for count in _counts(front):
            owed = self._waiting(done, front[:count])
            if self._affords(owed + self._owed_repeats()):
                break
        return _spread(owed)

    def _waiting(
        self, done: Sequence[TrialRecord], front: Sequence[TrialRecord]
    ) -> list[TrialRecord]:
        """What of a front, its MobileNets and the network that shows the noise has not begun."""
        best = self.begun | {r.trial for r in front}
        budgets = {r.cost for r in done if not r.is_baseline and r.trial in best}
        rivals = [
            rival
            for budget in budgets
            for rival in best_by_screening([r for r in done if r.cost <= budget])
        ]
        chosen = [*front, *rivals] + ([] if self.repeated is None else [self.repeated])
        return list({r.trial: r for r in chosen if r.trial not in self.begun}.values())

    def _owed_repeats(self) -> list[TrialRecord]:
        return [] if self.repeated is None else [self.repeated] * self.repeats

    def _rival_at_a_budget(self) -> TrialRecord | None:
        """A MobileNet that answers are compared with at round budgets, which has not begun.

        A budget may buy more than the best network costs that was found within it.
        """
        short = [replace(r, promotion=None) for r in self.records]
        chosen = [r for r in short if r.trial in self.begun and not r.is_baseline]
        limit = MOST_OF_THE_REST * self._left()
        for budget in self.budgets or natural_budgets(short):
            if budget < 2 * max((r.cost for r in chosen), default=0):
                for rival in best_by_screening([r for r in short if r.cost <= budget]):
                    if rival.trial not in self.begun and rival.mult_adds <= limit:
                        return rival
        return None

    def _contender(self) -> TrialRecord | None:
        """The network with most to gain on the promoted ones; None where none has a chance.

        By the accuracies that are expected after the short training: they tell more of the longer
        one than those measured do.
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
            rivals = [logit(after) for r, after in promoted if r.cost <= record.cost]
            if not rivals:
                continue
            z = (calibration.logit_of(record.selection_accuracy) - max(rivals)) / calibration.spread
            gain = z * float(ndtr(z)) + math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
            if gain > most and ndtr(z) >= LEAST_CHANCE:
                best, most = record, gain
        return best

    def _affords(self, records: Sequence[TrialRecord]) -> bool:
        """Whether the share pays for the longer training of these beside those begun."""
        return sum(r.mult_adds for r in records) <= self._left()

    def _left(self) -> float:
        """Mult-Adds of networks whose longer training the share still pays for."""
        short, longer = self._work()
        share = self.settings.share
        return (share / (1 - share) * short - longer) / self.settings.longer

    def _work(self) -> tuple[int, int]:
        """Work of the short trainings, and of the longer ones begun."""
        trained = (r for r in self.records if not r.is_baseline and r.evaluation is not None)
        begun = (r for r in self.records if r.trial in self.begun)
        longer = self.repeats_work + sum(r.mult_adds for r in begun)
        return sum(r.mult_adds for r in trained), self.settings.longer * longer


def _spread(records: list[TrialRecord]) -> list[TrialRecord]:
    """First what adds most hypervolume to what stands before it."""
    left = sorted(records, key=lambda r: (r.cost, r.trial))
    ordered: list[TrialRecord] = []

    def volume(record: TrialRecord) -> float:
        return hypervolume(*_columns([*ordered, record]), _worst(records))

    while left:
        ordered.append(left.pop(max(range(len(left)), key=lambda i: volume(left[i]))))
    return ordered


def _counts(front: Sequence[TrialRecord]) -> range:
    """How many of a front, ordered by `_spread`, may stand for it; most first."""
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
    """A point that all records beat, in the columns' units."""
    return 0.0, math.log10(2 * max(r.cost for r in records))
