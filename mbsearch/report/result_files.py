"""Write a study's result files: tables, the interactive plot and the best network."""

from __future__ import annotations

from pathlib import Path

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.front import knee_of
from mbsearch.analysis.tables import to_frame
from mbsearch.errors import NoAnswerError
from mbsearch.figures.front import front_figure
from mbsearch.figures.style import CONFIG
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.records import TrialRecord, metric_of


def write_results(folder: Path, findings: Findings, title: str) -> list[Path]:
    """Write trials.csv, front.csv, front.html and best.yaml atomically; return their paths.

    The front is of the networks within the study's limits and budgets. best.yaml is the answer that
    `mbsearch export` exports by default, or the front's knee if there is no answer.

    Raises:
        StorageError: the folder cannot be written, or no trial is completed.
    """
    within = findings.within
    frame = to_frame(findings.records, within)
    html = front_figure(within, title).to_html(
        include_plotlyjs=True, full_html=True, default_height="92vh", config=CONFIG
    )
    files = {
        "trials.csv": frame.to_csv(index=False),
        "front.csv": frame[frame["on_front"]].sort_values(metric_of(within)).to_csv(index=False),
        "front.html": html,
        "best.yaml": _best(findings).architecture.to_yaml(),
    }
    return [write_atomically(folder / name, text) for name, text in files.items()]


def _best(findings: Findings) -> TrialRecord:
    try:
        if findings.main_budget is not None:
            return answer(findings, findings.main_budget).record
    except NoAnswerError:
        pass
    return knee_of(findings.within)
