"""The plan of a study's finals, and the time of a training from which it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from mbsearch.config.budgets import Budget
from mbsearch.study.records import Evaluation, TrialRecord

PLAN = "finals_plan"
"""User attribute of a study: the plan of its finals."""

_FIXED = 9e5  # Mult-Adds that take as long as the part of a step that is the same for all networks


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """Model of the seconds that a training takes in one worker.

    A training on `n` images with a network of `m` Mult-Adds an image takes n * rate * (m + 0.9 M)
    seconds: part of a step is the same for all networks (docs/sampler.md).
    """

    rate: float

    @staticmethod
    def fit(records: Sequence[TrialRecord], images: int) -> TrainingTime | None:
        """Return the model with the median rate of a study's trainings; None if there are none.

        `images` is the number of training images, which recipes without a limit use. Screenings
        within a budget have similar costs, so only one parameter can be fitted.
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
        """Predict the seconds of a training on `images` images."""
        return images * self.rate * (mult_adds + _FIXED)


def _mult_adds(record: TrialRecord, evaluation: Evaluation) -> float:
    """Return the Mult-Adds per image at the resolution of a training."""
    return record.mult_adds * (evaluation.pixels.side / record.architecture.resolution.side) ** 2


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of the finals: epochs, candidates per budget, and the budgets that have finals.

    `seconds` is the time of all workers together, of earlier finals too; `added` is the part that
    this plan added. `budgets` has positions in `asked`, the labels of all budgets that were ever
    asked for. The plan was made for this number of search `trials`, those of the study so far if
    there was no number, and for finals of these `minutes`. Plans of older versions lack `asked`, so
    that `budgets` has positions in the settings, or `trials` and `minutes`.
    """

    seconds: float
    epochs: int
    networks: int
    budgets: tuple[int, ...]
    asked: tuple[str, ...] = ()
    trials: int | None = None
    minutes: float | None = None
    added: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data for storage."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Plan:
        """Return the plan from data that `to_dict` returned."""
        lists = {name: tuple(data.get(name, ())) for name in ("budgets", "asked")}
        return Plan(**{**data, **lists})

    def after(self, earlier: Plan) -> Plan:
        """Return the plan that stands for an earlier one, too, where that had more."""
        others = [label for label in earlier.asked if label not in self.asked]
        kept = [earlier.asked[i] for i in earlier.budgets] if earlier.asked else []
        asked = (*self.asked, *others)
        return replace(
            self,
            asked=asked,
            budgets=(*self.budgets, *(asked.index(label) for label in others if label in kept)),
            trials=max(self.trials or 0, earlier.trials or 0),
            minutes=max(self.minutes or 0.0, earlier.minutes or 0.0),
        )

    def positions(self, budgets: Sequence[Budget]) -> list[int]:
        """Return the positions of those budgets that have finals."""
        if not self.asked:
            return list(self.budgets)
        labels = {self.asked[i] for i in self.budgets}
        return [i for i, budget in enumerate(budgets) if budget.label in labels]

    def sentence(self, budgets: Sequence[Budget]) -> str:
        """Return a sentence about the plan, which names the budgets that get no finals."""
        having = self.positions(budgets)
        what = "further finals" if self.added < self.seconds else "finals"
        if not having:
            return f"{what}: no budget's finals fit the time; its answers rest on promotion"
        left_out = [b.label for i, b in enumerate(budgets) if i not in having]
        rest = f"; no time for those at {', '.join(left_out)}" if left_out else ""
        return (
            f"{what}: about {self.networks} candidates a budget beside its strongest references, "
            f"{self.epochs} epochs each, {self.added / 60:.1f} min of worker time{rest}"
        )
