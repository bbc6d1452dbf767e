"""Select networks of a study to retrain, and references to compare them with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.front import front_of
from mbsearch.analysis.reference_families import best_references
from mbsearch.config.budgets import Budget
from mbsearch.errors import StorageError
from mbsearch.study.records import TrialRecord, find_trial, of_highest_fidelity


@dataclass(frozen=True, slots=True)
class Selection:
    """The user's selection of networks to retrain: trials, best ones, front or budgets.

    Args:
        trials: numbers of single trials.
        top: number of the most accurate networks of the search.
        front: whether the networks of the search on the Pareto front are selected.
        budgets: whose answers are selected.
    """

    trials: Sequence[int] = ()
    top: int | None = None
    front: bool = False
    budgets: Sequence[Budget] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no network is selected."""
        return not (self.trials or self.top or self.front or self.budgets)


@dataclass
class Selected:
    """The selected networks, and the study's references for each, keyed by its fingerprint."""

    records: list[TrialRecord]
    references: dict[str, list[TrialRecord]] = field(default_factory=dict)

    def add_answer(self, findings: Findings, budget: Budget) -> None:
        """Add the answer for a budget, and the strongest references within the budget.

        These are the references that it is compared with, and of each other family the best one. If
        the answer is a reference, it is compared with the best network of the search.
        """
        found = answer(findings, budget)
        beside = [margin.other.record for margin in found.margins]
        record = found.record
        if found.searched is not None:
            beside.insert(0, record)
            record = found.searched.other.record
        families = {each.origin for each in beside}
        beside += [r for r in best_references(findings, budget) if r.origin not in families]
        self.records.append(record)
        self.references.setdefault(record.fingerprint, []).extend(beside)


def select(findings: Findings, selection: Selection) -> Selected:
    """Return the selected networks of a study.

    Raises:
        StorageError: a trial is unknown, or no network of the search is selected.
    """
    selected = Selected([find_trial(findings.records, n) for n in selection.trials])
    candidates = [r for r in of_highest_fidelity(findings.within) if not r.is_baseline]
    if selection.top is not None:
        best = sorted(candidates, key=lambda r: (-r.selection_accuracy, r.cost))
        selected.records += best[: selection.top]
    if selection.front:
        selected.records += [r for r in front_of(findings.within) if not r.is_baseline]
    if not selected.records and (selection.top is not None or selection.front):
        raise StorageError("--top, --front: expected a candidate, got MobileNets only")
    for budget in selection.budgets:
        selected.add_answer(findings, budget)
    return selected
