"""Best reference network of each family within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mbsearch.analysis.fidelity_levels import (
    FidelityLevel,
    best_of,
    fidelity_levels,
    screened_level,
)
from mbsearch.analysis.findings import Findings
from mbsearch.config.budgets import Budget
from mbsearch.config.families import is_published
from mbsearch.study.records import TrialRecord, complete


def best_by_screening(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return each family's most accurate reference after screening, sorted by family name."""
    references = [r for r in complete(list(records)) if r.is_baseline]
    families = [
        [r for r in references if r.origin == family]
        for family in sorted({r.origin for r in references})
    ]
    return [max(family, key=lambda r: (r.accuracy, -r.cost)) for family in families]


def best_references(
    findings: Findings, budget: Budget, *, published: bool = False
) -> list[TrialRecord]:
    """Return each family's best reference within a budget, from best to worst family.

    All are compared by the highest fidelity that trained a reference of every such family:
    retraining, finals, promotion or the model's prediction, else screening. `published` leaves out
    the references that are scaled freely.

    Raises:
        NoAnswerError, StorageError: as `answer`.
    """

    def families(level: FidelityLevel) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, r in enumerate(level.records):
            if r.is_baseline and (not published or is_published(r.origin, r.architecture)):
                found.setdefault(r.origin, []).append(i)
        return found

    trained = [r for r in complete(list(findings.records)) if budget.excess(r.costs) is None]
    screened = [replace(r, promotion=None, predicted=None) for r in trained]
    levels: list[FidelityLevel] = [screened_level(screened), *fidelity_levels(findings, budget)]
    every = families(levels[0]).keys()
    level = next(each for each in reversed(levels) if families(each).keys() >= every)
    best = [best_of(level, members) for members in families(level).values()]
    return [level.records[i] for i in sorted(best, key=lambda i: level.estimates[i], reverse=True)]
