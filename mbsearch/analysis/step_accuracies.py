"""Accuracies of a network after each step of a study, from retraining down to screening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mbsearch.analysis.fidelity_levels import (
    RETRAINING,
    finals_accuracies,
    retrained_accuracy,
    screened_level,
)
from mbsearch.analysis.findings import Findings, measured
from mbsearch.analysis.intervals import Interval
from mbsearch.study.records import Fidelity, TrialRecord, score_of_study


@dataclass(frozen=True, slots=True)
class StepAccuracy:
    """Accuracy of a network after one step of the study, measured on a split.

    `step` is a `Fidelity` or `RETRAINING`.
    """

    step: str
    split: str
    accuracy: Interval

    def __str__(self) -> str:
        if self.accuracy.exact:
            return f"{self.accuracy.mean:.3f} ({self.step})"
        return f"{self.accuracy.mean:.3f} ({self.step}, 95 % interval {self.accuracy.bounds()})"


def step_accuracies(findings: Findings, record: TrialRecord) -> list[StepAccuracy]:
    """Return the accuracies of a network of the study, of the longest training first.

    Args:
        findings: of the study.
        record: as in the findings, not at its highest fidelity; without an accuracy it has none.
    """
    found = []
    if (tested := retrained_accuracy(findings, record.fingerprint)) is not None:
        found.append(StepAccuracy(RETRAINING, "test", tested))
    if record.finals:
        final = finals_accuracies(findings)[record.trial]
        found.append(StepAccuracy(str(Fidelity.FINAL), "validation", final))
    promoted = record.at_highest_fidelity if record.promotion is not None else None
    short = replace(record, promotion=None, promotion_noise=None)
    for each, step in ((promoted, Fidelity.PROMOTION), (short, Fidelity.SCREENING)):
        if each is not None and each.evaluation is not None:
            accuracy = screened_level([measured(each)]).scored(0).accuracy
            found.append(StepAccuracy(str(step), "validation", accuracy))
    return found


def accuracy_columns(
    findings: Findings, shown: Sequence[TrialRecord]
) -> tuple[list[str], list[list[str]]]:
    """Return heads and cells of a table's accuracy columns, one row of cells a network.

    Finals have a column if one of the networks was in them.

    Args:
        findings: of the study.
        shown: completed networks, all of one fidelity, which the first head names.
    """
    step = Fidelity.PROMOTION if any(r.promotion for r in shown) else Fidelity.SCREENING
    heading = score_of_study(findings.records).heading
    head, cells = [f"{heading}, {step}"], [[accuracy_text(r)] for r in shown]
    if not any(r.finals for r in shown):
        return head, cells
    finals = finals_accuracies(findings)
    for record, row in zip(shown, cells, strict=True):
        found = finals.get(record.trial)
        row.append("" if found is None else f"{found.mean:.3f} ({found.bounds()})")
    return [*head, f"{heading}, {Fidelity.FINAL}"], cells


def accuracy_text(record: TrialRecord) -> str:
    """Return an evaluated record's accuracy with its standard error: ``0.871 ± 0.006``."""
    noise = "" if record.accuracy_noise is None else f" ± {record.accuracy_noise:.3f}"
    return f"{record.accuracy:.3f}{noise}"
