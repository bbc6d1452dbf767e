"""The answer for a budget: the best network within it, and its margins over references.

`answer_selection` chooses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mbsearch.analysis.fidelity_levels import RETRAINING, Scored
from mbsearch.analysis.int8_loss import int8_difference, is_loss
from mbsearch.analysis.intervals import Interval, points, tie_margin
from mbsearch.config.budgets import Budget
from mbsearch.config.scores import Score
from mbsearch.cost.metrics import amount, quantity
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.records import UNTRIED, TrialRecord


@dataclass(frozen=True, slots=True)
class Margin:
    """Accuracy of the answer minus that of another network, at the same fidelity.

    `cost_ratio` is the answer's cost divided by the other network's. `published` is whether the
    other one is a reference of a published width and resolution. `pixels` is the size of the images
    that the other one was trained on, if it is not its own resolution although the answer's is.
    """

    other: Scored
    difference: Interval
    cost_ratio: float
    published: bool
    pixels: Size | None = None

    def clause(self) -> str:
        """Return the margin as text for a sentence.

        ``+2.5 points over MobileNetV2 0.35/128 at 0.64 times the cost (19.1 M, 0.725; 95 % interval
        +0.4 to +4.6, significant)``.
        """
        record = self.other.record
        text = f"{points(self.difference.mean)} points over {record.label_with_start} "
        text += "" if self.pixels is None else f"trained at {self.pixels} px "
        text += f"{at_cost(self.cost_ratio)} ({quantity(record.metric, record.cost)}, "
        text += f"{self.other.accuracy.mean:.3f}"
        if self.difference.exact:
            return f"{text})"
        return f"{text}; {self.difference.in_points()})"

    def detail(self) -> str:
        """Format the probability of a higher accuracy: ``P(more accurate) = 0.99``."""
        return f"P(more accurate) = {self.difference.probability:.2f}"

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
            "pixels": None if self.pixels is None else self.pixels.plain,
            "accuracy": self.other.accuracy.mean,
            "cost_ratio": self.cost_ratio,
            "difference": self.difference.mean,
            "low": self.difference.low,
            "high": self.difference.high,
            "significant": self.difference.significant,
        }


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of an answer's sentence, with a detail that a card shows on hover."""

    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of an answer's sentence with the punctuation that precedes it.

    `kind` is ``budget``, ``network``, ``facts`` or ``clause``: a card's style.
    """

    mark: str
    kind: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The sentence of an answer in parts, which a card shows one below the other.

    `budget` is ``At 20 M Mult-Adds``, `network` is ``use trial 43``, `facts` are its cost and
    accuracy, `clauses` compare it with other networks.
    """

    budget: str
    network: str
    facts: str
    clauses: tuple[Clause, ...]

    def segments(self) -> list[Segment]:
        """Return the parts in their order."""
        return [
            Segment("", "budget", self.budget),
            Segment(": ", "network", self.network),
            Segment(", ", "facts", self.facts),
            *(Segment("; ", "clause", each.text, each.detail) for each in self.clauses),
        ]

    def __str__(self) -> str:
        return "".join(segment.mark + segment.text for segment in self.segments())


@dataclass(frozen=True, slots=True)
class Answer:
    """The best network within a budget, and its margins over the references.

    `basis` names the fidelity of the accuracies, or is `RETRAINING`. If `predicted`, they are
    predictions of a model for the study's highest fidelity. `pixels` is the size of the images
    trained on. `margins` has the best reference of each family within the budget, and the best
    published one if it is another; the most accurate reference is the first. `equalled` is the
    margin over the most accurate reference of larger cost that the network is as accurate as within
    `TIED_WITHIN`, if there is one. `cheaper` is the network of the smallest cost that is as
    accurate as the answer within `TIED_WITHIN`, if there is one. `searched` is the margin over the
    best searched network, if the answer is a reference. `unpromoted` are references that are better
    by screening than those of the margins, but were not promoted. `largest_class` is the share of
    the largest class in the split that the accuracy was measured on, None if it is unknown.
    """

    budget: Budget
    best: Scored
    basis: str
    predicted: bool
    pixels: Size | None
    margins: tuple[Margin, ...]
    equalled: Margin | None = None
    cheaper: Scored | None = None
    searched: Margin | None = None
    unpromoted: tuple[TrialRecord, ...] = ()
    largest_class: float | None = None

    @property
    def record(self) -> TrialRecord:
        """The network's record; its trial number is `UNTRIED` if it was not in the search."""
        return self.best.record

    @property
    def name(self) -> str:
        """The network's name in text."""
        return self.record.label

    @property
    def split(self) -> str:
        """The split on which accuracy was measured: ``validation`` or ``test``."""
        return "test" if self.basis == RETRAINING else "validation"

    @property
    def int8(self) -> Interval | None:
        """Validation accuracy as int8 minus that in float32, of the weights of the final."""
        return int8_difference(self.record)

    def sentence(self) -> str:
        """Return the answer as a sentence.

        ``At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (95 %
        interval 0.721 to 0.778, finals); +2.5 points over MobileNetV2 0.35/128 at 0.64 times the
        cost (19.1 M, 0.725; 95 % interval +0.4 to +4.6, significant)``.
        """
        return str(self.text())

    def text(self) -> AnswerText:
        """Return the sentence in parts."""
        return AnswerText(
            f"At {self.budget.label}", f"use {self.name}", self._facts(), tuple(self._clauses())
        )

    def accuracy_text(self) -> str:
        """Format ``validation accuracy 0.750 (95 % interval 0.721 to 0.778, finals)``."""
        accuracy = self.best.accuracy
        within = [] if accuracy.exact else [f"95 % interval {accuracy.bounds()}"]
        notes = ", ".join([*within, *self._balance(), self.basis, *self._pixels()])
        kind = f"{'predicted ' * self.predicted}{self.split} {self.record.score.noun}"
        return f"{kind} {accuracy.mean:.3f} ({notes})"

    def _facts(self) -> str:
        costs = " and ".join(amount(m, self.record.costs[m]) for m in self.budget.bounds())
        return f"{costs}, {self.accuracy_text()}"

    def _clauses(self) -> list[Clause]:
        clauses = []
        if self.record.is_baseline:
            clauses.append(_clause("no searched network is better", self.searched))
        if self.cheaper is not None:
            ratio = at_cost(self.cheaper.record.cost / self.record.cost)
            cheaper = f"{self.cheaper.brief()} is as accurate within {tie_margin()} {ratio}"
            clauses.append(Clause(cheaper))
        clauses += [_clause("", margin) for margin in self.margins]
        if not self.margins and not self.record.is_baseline:
            clauses.append(Clause(f"no MobileNet of this budget is known from {self.basis}"))
        if self.equalled is not None:
            other, ratio = self.equalled.other.brief(), at_cost(self.equalled.cost_ratio)
            equal = f"as accurate as {other} within {tie_margin()} {ratio}"
            difference = self.equalled.difference
            if difference.significant and difference.low > 0:
                equal = f"significantly more accurate than {other} {ratio}"
            clauses.append(Clause(equal, self.equalled.detail()))
        clauses += [
            Clause(f"{each.label} may be better, but was not promoted") for each in self.unpromoted
        ]
        if self.int8 is not None and is_loss(self.int8):
            lost = f"int8 loses {-100 * self.int8.mean:.1f} points on validation images"
            clauses.append(Clause(f"{lost} ({self.int8.in_points()})"))
        return clauses

    def _balance(self) -> list[str]:
        """Return notes on the largest class, and on the score of always predicting it."""
        share, accuracy, score = self.largest_class, self.best.accuracy, self.record.score
        if share is None:
            return []
        always = score.of_largest_class(share, self.record.architecture.num_classes)
        notes = [] if score is Score.ACCURACY else [f"largest class {share:.3f}"]
        if accuracy.mean <= always:
            return [*notes, f"no network is better than always the largest class, {always:.3f}"]
        if accuracy.low <= always:
            verdict = f"not significantly better than always the largest class, {always:.3f}"
            return [*notes, verdict]
        return notes or [f"largest class {share:.3f}"]

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
            "score": str(self.record.score),
            "split": self.split,
            "largest_class": self.largest_class,
            "basis": self.basis,
            "predicted": self.predicted,
            "pixels": self.pixels and self.pixels.plain,
            "margins": [margin.to_dict() for margin in self.margins],
            "equalled": None if self.equalled is None else self.equalled.to_dict(),
            "unpromoted": [each.label for each in self.unpromoted],
            "cheaper": None if self.cheaper is None else self.cheaper.record.label,
            "int8": self._int8_row(),
            "sentence": self.sentence(),
        }

    def _int8_row(self) -> dict[str, Any] | None:
        if self.int8 is None:
            return None
        return {
            "accuracy": self.record.int8_accuracy,
            "difference": self.int8.mean,
            "low": self.int8.low,
            "high": self.int8.high,
            "significant": self.int8.significant,
        }


def pixels_note(pixels: Size | None, network: Architecture) -> str | None:
    """Return ``trained at 56 px instead of its own 224``; None if that is where it was trained."""
    if pixels is None or pixels == network.resolution:
        return None
    return f"trained at {pixels} px instead of its own {network.resolution}"


def at_cost(ratio: float) -> str:
    """Format a ratio of costs: ``at 0.64 times the cost``, or ``at equal cost``."""
    text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
    return "at equal cost" if text == "1.00" else f"at {text} times the cost"


def answer_text(found: Answer | str) -> str:
    """Return an answer's sentence, or the reason why there is no answer."""
    return found.sentence() if isinstance(found, Answer) else found


def answer_row(found: Answer | str, budget: Budget) -> dict[str, Any]:
    """Return plain data of an answer, or of the reason why there is none."""
    if isinstance(found, Answer):
        return found.to_dict()
    return {"budget": budget.bounds(), "name": None, "sentence": found}


def _clause(text: str, margin: Margin | None) -> Clause:
    """Return a text and a margin as a clause."""
    if margin is None:
        return Clause(text)
    return Clause(f"{text}: {margin.clause()}" if text else margin.clause(), margin.detail())


def _number(record: TrialRecord) -> int | None:
    return None if record.trial == UNTRIED else record.trial
