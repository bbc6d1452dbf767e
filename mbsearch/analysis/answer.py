"""The answer for a budget: the best network within it, and its margins over references.

`answer_selection` chooses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbsearch.analysis.fidelity_levels import RETRAINING, Scored
from mbsearch.analysis.intervals import Interval, points, tie_margin
from mbsearch.config.budgets import Budget
from mbsearch.cost.metrics import amount, quantity
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import UNTRIED, TrialRecord


@dataclass(frozen=True, slots=True)
class Margin:
    """Accuracy of the answer minus that of another network, at the same fidelity.

    `published` is whether the other one is a reference of a published width and resolution.
    """

    other: Scored
    difference: Interval
    published: bool

    def clause(self) -> str:
        """Return the margin as text for a sentence.

        ``+2.5 points over MobileNetV2 0.35/128 (12.6 M, 0.725; 95 % interval +0.4 to +4.6)``.
        """
        text = f"{points(self.difference.mean)} points over {self.other.record.label_with_start} ("
        text += f"{quantity(self.other.record.metric, self.other.record.cost)}, "
        text += f"{self.other.accuracy.mean:.3f}"
        if self.difference.exact:
            return f"{text})"
        return f"{text}; {self.difference.in_points()})"

    def to_dict(self) -> dict[str, Any]:
        """Return the margin as plain data."""
        record = self.other.record
        return {
            "name": record.label,
            "trial": _number(record),
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

    `basis` names the fidelity of the accuracies, or is `RETRAINING`. If `predicted`, they are
    predictions of a model for the study's highest fidelity. `pixels` is the side of the images
    trained on. `margins` has the best reference of each family within the budget, and the best
    published one if it is another. `cheaper` is the network of the smallest cost that is as
    accurate within `TIED_WITHIN`, if there is one. `searched` is the margin over the best searched
    network, if the answer is a reference. `unpromoted` are references that are better by screening
    than those of the margins, but were not promoted.
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
        """The network's record, with trial number `UNTRIED` if only retraining trained it."""
        return self.best.record

    @property
    def name(self) -> str:
        """The network's name in text."""
        return self.record.label

    @property
    def split(self) -> str:
        """The split on which accuracy was measured: ``validation`` or ``test``."""
        return "test" if self.basis == RETRAINING else "validation"

    def sentence(self) -> str:
        """Return the answer as a sentence.

        ``At 20 M Mult-Adds: trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (95 % interval
        0.721 to 0.778, finals); +2.5 points over MobileNetV2 0.35/128 (12.6 M, 0.725; 95 % interval
        +0.4 to +4.6, significant)``.
        """
        costs = " and ".join(amount(m, self.record.costs[m]) for m in self.budget.bounds())
        kind = f"{'predicted ' * self.predicted}{self.split} accuracy"
        accuracy = self.best.accuracy
        within = [] if accuracy.exact else [f"95 % interval {accuracy.bounds()}"]
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
            parts.append(f"{self.cheaper.brief()} is as accurate within {tie_margin()}")
        return f"At {self.budget.label}: {'; '.join(parts)}"

    def _pixels(self) -> list[str]:
        note = pixels_note(self.pixels, self.record.architecture)
        return [] if note is None else [note]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as printed by ``mbsearch status --budget BUDGET --json``."""
        accuracy = self.best.accuracy
        return {
            "budget": self.budget.bounds(),
            "name": self.name,
            "trial": _number(self.record),
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
    """Return ``trained at 56 px in place of 224``, or None at the network's own resolution."""
    if pixels is None or pixels == network.resolution:
        return None
    return f"trained at {pixels} px in place of {network.resolution}"


def answer_text(found: Answer | str) -> str:
    """Return an answer's sentence, or the reason why there is no answer."""
    return found.sentence() if isinstance(found, Answer) else found


def answer_row(found: Answer | str, budget: Budget) -> dict[str, Any]:
    """Return an answer as plain data, or the reason why there is no answer in its place."""
    if isinstance(found, Answer):
        return found.to_dict()
    return {"budget": budget.bounds(), "name": None, "sentence": found}


def _number(record: TrialRecord) -> int | None:
    return None if record.trial == UNTRIED else record.trial
