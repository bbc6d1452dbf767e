"""The files that a study leaves for people: tables, the interactive plot, the best network."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mbsearch.analysis.answer import Findings, answer
from mbsearch.errors import NoAnswerError, StorageError
from mbsearch.figures.front import front_figure
from mbsearch.figures.style import CONFIG
from mbsearch.records import TrialRecord, metric_of
from mbsearch.results import knee, to_frame


def write_results(folder: Path, findings: Findings, title: str) -> list[Path]:
    """Write trials.csv, front.csv, front.html and best.yaml; whole files or none.

    The front is of the networks within the study's limits and budgets, and best.yaml is the answer
    that `mbsearch export` exports by default; the front's knee where there is none.

    Raises:
        StorageError: the folder cannot be written, or no trial is complete.
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
    return [write_whole(folder / name, text) for name, text in files.items()]


def _best(findings: Findings) -> TrialRecord:
    try:
        if findings.main is not None:
            return answer(findings, findings.main).record
    except NoAnswerError:
        pass
    return knee(findings.within)


def write_whole(path: Path, text: str) -> Path:
    """Write a text file so that a reader, or a full disk, never sees half of it.

    Raises:
        StorageError: it cannot be written; the file that was there before is untouched.
    """
    temporary: str | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
    return path
