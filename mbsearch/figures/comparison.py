"""Table that compares networks: one fact per row, with differences from the first network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mbsearch.analysis.int8_loss import int8_text
from mbsearch.analysis.intervals import Z_95, Interval, too_few
from mbsearch.analysis.option_text import option_text
from mbsearch.cost.metrics import find_metric, quantity
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.records import Fidelity, State, TrialRecord

_MISSING = "none"


@dataclass(frozen=True, slots=True)
class ComparedFact:
    """One fact about several networks, as texts, and as numbers where it is numeric.

    `amount` formats a difference without its sign; None if the numbers are not compared.
    """

    name: str
    texts: tuple[str, ...]
    numbers: tuple[float | None, ...] = ()
    amount: Callable[[float], str] | None = None

    @property
    def differs(self) -> bool:
        """Whether the fact differs between any two networks."""
        return len(set(self.texts)) > 1

    def difference(self, i: int) -> str:
        """Return network i minus the first, as ``+2.5 points``; empty if not comparable."""
        first, other = self._pair(i)
        if first is None or other is None or self.amount is None:
            return ""
        sign = "+" if other >= first else "-"
        return f"{sign}{self.amount(abs(other - first))}"

    def ratio(self, i: int) -> str:
        """Return network i divided by the first, as ``0.64 x``; empty if not comparable."""
        first, other = self._pair(i)
        return f"{other / first:.2f} x" if first and other is not None and self.amount else ""

    def _pair(self, i: int) -> tuple[float | None, float | None]:
        return (self.numbers[0], self.numbers[i]) if self.numbers else (None, None)


def compared_facts(
    records: Sequence[TrialRecord],
    measured: Artifacts,
    finals: Mapping[int, Interval] | None = None,
) -> list[ComparedFact]:
    """Return the facts of networks: accuracies, costs, latencies, retraining, architecture.

    Args:
        records: of the networks.
        measured: files beside the study.
        finals: accuracies after the finals, by trial.
    """
    facts = [
        *_accuracies(records),
        *_finals(records, finals or {}),
        *_int8(records),
        *_int8_files(records, measured),
        *_retrained(records, measured),
    ]
    for metric in dict.fromkeys(metric for r in records for metric in r.costs):
        costs = [r.costs.get(metric) for r in records]
        facts.append(_cost(find_metric(metric).title, metric, costs))
    for metric, found in measured.latencies.items():
        if any(r.fingerprint in found for r in records):
            medians = [
                found[r.fingerprint].median if r.fingerprint in found else None for r in records
            ]
            facts.append(_cost(find_metric(metric).title, metric, medians))
    networks = [dict(_leaves(r.architecture.to_dict())) for r in records]
    for path in dict.fromkeys(path for each in networks for path in each):
        facts.append(ComparedFact(path, tuple(_shown(each.get(path)) for each in networks)))
    return facts


def comparison_rows(facts: Sequence[ComparedFact], *, equal: bool) -> list[list[str]]:
    """Return the table's rows; each later network also has a difference and a ratio.

    Args:
        facts: of the networks.
        equal: include facts that do not differ.
    """
    rows = []
    for fact in facts:
        if equal or fact.differs:
            row = [fact.name, fact.texts[0]]
            for i in range(1, len(fact.texts)):
                row += [fact.texts[i], fact.difference(i), fact.ratio(i)]
            rows.append(row)
    return rows


def comparison_head(records: Sequence[TrialRecord]) -> list[str]:
    """Return the heads of the table's columns."""
    first, *others = (record.label for record in records)
    head = ["Fact", first]
    for label in others:
        head += [label, "Difference", "Ratio"]
    return head


def comparison(first: TrialRecord, second: TrialRecord) -> str:
    """Return a sentence on the difference in cost and accuracy, and its significance."""
    ratio = first.cost / second.cost
    noun = find_metric(first.metric).noun
    label = first.label[0].upper() + first.label[1:]
    cost = f"{label} needs {ratio:.2f} times the {noun} of {second.label}"
    if first.evaluation is None or second.evaluation is None:
        return f"{cost}."
    step = Fidelity.SCREENING
    if first.promotion is not None and second.promotion is not None:
        first, second = first.at_highest_fidelity, second.at_highest_fidelity
        step = Fidelity.PROMOTION
    if State.PRUNED in (first.state, second.state):
        return f"{cost}; a pruned training does not show which one is more accurate."
    difference, noise = first.accuracy - second.accuracy, first.accuracy_noise
    direction = "higher" if difference >= 0 else "lower"
    text = f"{cost}, and its {step} {first.score.noun} is {abs(difference):.3f} {direction}"
    images = None if first.evaluation is None else first.evaluation.images
    if noise is None:
        return f"{text}."
    if too_few(images):
        return f"{text}, not significant: {images} images are too few."
    # The difference of two evaluations has sqrt(2) times the noise of one.
    inside = abs(difference) < Z_95 * math.sqrt(2) * noise
    return f"{text}, {'not significant' if inside else 'significant'} given the noise."


def _accuracies(records: Sequence[TrialRecord]) -> list[ComparedFact]:
    """Return the accuracies of screening, and of promotion if a network has one."""
    short = [replace(r, promotion=None, promotion_noise=None) for r in records]
    noun = records[0].score.noun
    facts = [_accuracy(f"{noun}, screening", short)]
    if any(r.promotion is not None for r in records):
        longer = [r.at_highest_fidelity if r.promotion else None for r in records]
        facts.append(_accuracy(f"{noun}, promotion", longer))
    return facts


def _int8(records: Sequence[TrialRecord]) -> list[ComparedFact]:
    """Return the accuracies of the finals' weights as int8; empty if there are none."""
    numbers = tuple(r.int8_accuracy for r in records)
    if not any(number is not None for number in numbers):
        return []
    texts = tuple(int8_text(r) or _MISSING for r in records)
    return [ComparedFact("validation accuracy as int8", texts, numbers, _points)]


def _accuracy(name: str, records: Sequence[TrialRecord | None]) -> ComparedFact:
    texts = []
    for record in records:
        if record is None or record.evaluation is None:
            texts.append(_MISSING if record is None else record.state.word)
            continue
        noise = "" if record.accuracy_noise is None else f" ± {record.accuracy_noise:.3f}"
        pruned = " (pruned)" if record.state is State.PRUNED else ""
        texts.append(f"{record.accuracy:.3f}{noise}{pruned}")
    return ComparedFact(
        name,
        tuple(texts),
        tuple(
            r.accuracy if r is not None and r.evaluation and r.state is State.COMPLETE else None
            for r in records
        ),
        _points,
    )


def _finals(
    records: Sequence[TrialRecord], accuracies: Mapping[int, Interval]
) -> list[ComparedFact]:
    found = [accuracies.get(r.trial) for r in records]
    if not any(found):
        return []
    texts = [_MISSING if each is None else f"{each.mean:.3f} ({each.bounds()})" for each in found]
    means = [None if each is None else each.mean for each in found]
    return [ComparedFact("accuracy, finals", tuple(texts), tuple(means), _points)]


def _int8_files(records: Sequence[TrialRecord], measured: Artifacts) -> list[ComparedFact]:
    """Return the accuracies of exported int8 files; each text has its split."""
    found = [measured.int8.get(r.fingerprint) for r in records]
    if not any(found):
        return []
    texts = [_MISSING if e is None else f"{e.accuracy:.3f} ({e.split} images)" for e in found]
    known = {each.split for each in found if each is not None}
    numbers = [None if each is None else each.accuracy for each in found]
    comparable = tuple(numbers) if len(known) == 1 else ()
    return [ComparedFact("accuracy, int8 file", tuple(texts), comparable, _points)]


def _retrained(records: Sequence[TrialRecord], measured: Artifacts) -> list[ComparedFact]:
    found = {each.fingerprint: each for each in measured.retrained}
    networks = [found.get(r.fingerprint) for r in records]
    if not any(networks):
        return []
    texts = [
        "not retrained"
        if each is None
        else f"{each.accuracy:.4f}" + ("" if each.spread is None else f" ± {each.spread:.4f}")
        for each in networks
    ]
    numbers = tuple(None if each is None else each.accuracy for each in networks)
    name = f"test {records[0].score.noun} after retraining"
    return [ComparedFact(name, tuple(texts), numbers, _points)]


def _cost(name: str, metric: str, values: Sequence[float | None]) -> ComparedFact:
    texts = tuple(_MISSING if value is None else quantity(metric, value) for value in values)
    return ComparedFact(name, texts, tuple(values), find_metric(metric).unit.format)


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"


def _shown(value: Any) -> str:
    return _MISSING if value is None else option_text(value)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of an architecture with its path, except the name."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if path or key != "name":
                yield from _leaves(each, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, value
