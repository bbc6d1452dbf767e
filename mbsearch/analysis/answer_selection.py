"""Choose the answer for a budget: the best network, and the networks to compare it with."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Hashable, Sequence
from dataclasses import replace

from mbsearch.analysis.answer import Answer, Margin
from mbsearch.analysis.fidelity_levels import (
    FidelityLevel,
    best_of,
    fidelity_levels,
    with_larger_references,
)
from mbsearch.analysis.findings import Findings, budget_of, is_within, records_within, require_costs
from mbsearch.analysis.intervals import TIED_WITHIN
from mbsearch.analysis.reference_families import best_by_screening
from mbsearch.config.budgets import Budget
from mbsearch.config.families import COMPARED, DONORS, is_published
from mbsearch.errors import NoAnswerError, StorageError
from mbsearch.space.size import Size
from mbsearch.study.records import Fidelity, TrialRecord


def answer(findings: Findings, budget: Budget) -> Answer:
    """Return the answer for a budget: the best network within it, with its margins.

    Raises:
        NoAnswerError: no trained network is within the budget; the smallest is named.
        StorageError: the budget bounds a cost that the study does not have.
    """
    level = fidelity_levels(findings, budget)[-1]
    indices = range(len(level.records))
    best = best_of(level, indices)
    record = level.records[best]
    references = [i for i in indices if level.records[i].is_baseline]
    cheaper = _smallest_as_accurate(level, best)
    margins = tuple(_margins(level, best, references))
    short = level.basis(best) in (Fidelity.SCREENING, Fidelity.PROMOTION)
    found = Answer(
        budget=budget,
        best=level.scored(best),
        basis=level.basis(best),
        predicted=level.predicted(best),
        pixels=level.pixels(best),
        margins=margins,
        equalled=_equalled(findings, level, best, margins),
        cheaper=None if cheaper == best else level.scored(cheaper),
        searched=_searched(level, best, references) if record.is_baseline else None,
        unpromoted=tuple(_unpromoted(findings, budget, level, references)) if short else (),
    )
    if findings.images is None:
        return found
    return replace(found, largest_class=findings.images.largest_class[found.split])


def answers(
    findings: Findings,
    budgets: Sequence[Budget],
    known: dict[Budget, Answer | str] | None = None,
) -> dict[Budget, Answer | str]:
    """Return the answer for each budget, or a sentence that says why there is none.

    Budgets with the same networks within them are computed once.

    Args:
        findings: of the study.
        budgets: asked for.
        known: answers of earlier calls with the same findings, to which new ones are added.

    Raises:
        StorageError: as `answer`.
    """
    found = {} if known is None else known
    same: dict[Hashable, Answer] = {}
    costs: dict[str, list[int]] = {}
    for budget in budgets:
        if budget in found:
            continue
        require_costs(findings, budget)
        for metric in budget.bounds().keys() - costs.keys():
            costs[metric] = sorted(r.costs[metric] for r in findings.records)
        # The number of networks within a bound identifies them: the smallest ones.
        within = (
            *((metric, bisect(costs[metric], bound)) for metric, bound in budget.bounds().items()),
            *(i for i, r in enumerate(findings.retrained) if is_within(budget, r.costs)),
        )
        if within in same:
            found[budget] = replace(same[within], budget=budget)
            continue
        try:
            found[budget] = same[within] = answer(findings, budget)
        except NoAnswerError as error:
            found[budget] = str(error)
    return {budget: found[budget] for budget in budgets}


def cheapest_tied(
    findings: Findings, record: TrialRecord, budget: Budget | None = None
) -> TrialRecord:
    """Return a budget's lowest-cost network at most `TIED_WITHIN` less accurate than `record`.

    It may be `record` itself, whose cost is the default budget.

    Raises:
        StorageError: the training of the trial is not complete.
    """
    for level in reversed(fidelity_levels(findings, budget or budget_of(record))):
        for i, other in enumerate(level.records):
            if other.fingerprint == record.fingerprint:
                return level.records[_smallest_as_accurate(level, i)]
    raise StorageError(
        f"trial {record.trial}: expected a completed training to find networks that are as "
        "accurate, got none"
    )


def _margins(level: FidelityLevel, best: int, references: Sequence[int]) -> list[Margin]:
    """Return margins over the best and the best published reference of each family.

    `references` are their indices. The most accurate reference is the first.
    """
    chosen = level.records[best]
    found: list[tuple[int, bool]] = []
    for family in (*DONORS, *COMPARED):
        members = [i for i in references if level.records[i].origin == family and i != best]
        published = [i for i in members if is_published(family, level.records[i].architecture)]
        strongest = best_of(level, members) if members and chosen.origin != family else None
        if strongest is not None:
            found.append((strongest, strongest in published))
        if published and (other := best_of(level, published)) != strongest:
            found.append((other, True))
    found.sort(key=lambda each: -level.estimates[each[0]])
    return [_margin_over(level, best, other, published) for other, published in found]


def _equalled(
    findings: Findings, level: FidelityLevel, best: int, margins: Sequence[Margin]
) -> Margin | None:
    """Return a searched network's margin over the best larger reference that it matches.

    The lower end of the margin's interval is at most `TIED_WITHIN` below 0. A reference is left out
    if a smaller one is more accurate, or if it is one of `margins` already.
    """
    if level.records[best].is_baseline:
        return None
    beside = with_larger_references(findings, level, best)
    others = range(1, len(beside.records))
    on_front = [
        i
        for i in others
        if not any(
            beside.records[j].cost <= beside.records[i].cost
            and beside.estimates[j] > beside.estimates[i]
            for j in others
        )
    ]
    equal = [i for i in on_front if beside.margin(0, i).low >= -TIED_WITHIN]
    if not equal:
        return None
    found = best_of(beside, equal)
    other = beside.records[found]
    if other.fingerprint in (margin.other.record.fingerprint for margin in margins):
        return None
    return _margin_over(beside, 0, found, is_published(other.origin, other.architecture))


def _searched(level: FidelityLevel, best: int, references: Sequence[int]) -> Margin | None:
    """Return the margin over the best searched network; None without any."""
    searched = sorted(set(range(len(level.records))).difference(references))
    if not searched:
        return None
    return _margin_over(level, best, best_of(level, searched), published=False)


def _unpromoted(
    findings: Findings, budget: Budget, level: FidelityLevel, references: Sequence[int]
) -> list[TrialRecord]:
    """Return each family's best reference by screening, unless it was promoted.

    `references` are the indices of those of the level.
    """
    records = records_within(findings.trained_references, budget)
    compared = {level.records[i].trial for i in references}
    families = (*DONORS, *COMPARED)
    best = [r for r in best_by_screening(records) if r.origin in families]
    return [r for r in best if r.trial not in compared]


def _margin_over(level: FidelityLevel, i: int, j: int, published: bool) -> Margin:
    ratio = level.records[i].cost / level.records[j].cost
    pixels = _other_pixels(level, j) if _other_pixels(level, i) is None else None
    return Margin(level.scored(j), level.margin(i, j), ratio, published, pixels)


def _other_pixels(level: FidelityLevel, i: int) -> Size | None:
    """Return the size of a network's training images if it is known and not the network's own."""
    pixels = level.pixels(i)
    return None if pixels == level.records[i].architecture.resolution else pixels


def _smallest_as_accurate(level: FidelityLevel, i: int) -> int:
    """Return the index of the lowest-cost network at most `TIED_WITHIN` less accurate than `i`."""
    least, cost = level.estimates[i] - TIED_WITHIN, level.records[i].cost
    accurate = (j for j, estimate in enumerate(level.estimates) if estimate >= least)
    near = [j for j in accurate if level.records[j].cost < cost]
    near.sort(key=lambda j: (level.records[j].cost, -level.estimates[j]))
    return next((j for j in near if level.margin(j, i).low >= -TIED_WITHIN), i)
