"""Write a study's result files: tables, the interactive plot and the best network."""

from __future__ import annotations

import shlex
from pathlib import Path

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.front import knee_of
from mbsearch.analysis.tables import to_frame
from mbsearch.errors import NoAnswerError, StorageError
from mbsearch.report.html import front_document
from mbsearch.study.artifacts import read_artifacts
from mbsearch.study.atomic_files import deferring, write_atomically
from mbsearch.study.identity import Identity
from mbsearch.study.records import TrialRecord, metric_of


def write_results(
    folder: Path, findings: Findings, title: str, identity: Identity | None = None
) -> list[StorageError]:
    """Write best.yaml, trials.csv, front.csv and front.html, each atomically, small ones first.

    The front is of the networks within the study's limits and budgets. best.yaml is the answer that
    `mbsearch export` exports by default, or the front's knee if there is no answer.

    Args:
        folder: folder of the study.
        findings: of the study.
        title: of the plot.
        identity: of the study, for what its audit does not apply to.

    Returns:
        The errors of the files that could not be written, none if all were.
    """
    within = findings.within
    frame = to_frame(findings.records, within)
    front = frame[frame["on_front"]].sort_values(metric_of(within))
    failures: list[StorageError] = []
    for name, text in (
        ("best.yaml", _best(findings).architecture.to_yaml()),
        ("trials.csv", frame.to_csv(index=False)),
        ("front.csv", front.to_csv(index=False)),
    ):
        with deferring(failures):
            write_atomically(folder / name, text)
    with deferring(failures):
        where = shlex.quote(str(folder))
        page = front_document(findings, title, read_artifacts(folder, identity), where)
        write_atomically(folder / "front.html", page)
    return failures


def _best(findings: Findings) -> TrialRecord:
    try:
        if findings.main_budget is not None:
            return answer(findings, findings.main_budget).record
    except NoAnswerError:
        pass
    return knee_of(findings.within)
