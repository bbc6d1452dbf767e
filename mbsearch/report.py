"""The files that a study leaves for people: tables, the interactive plot, the best network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from mbsearch.errors import StorageError
from mbsearch.figures.front import front_figure
from mbsearch.figures.style import CONFIG
from mbsearch.records import TrialRecord
from mbsearch.results import knee, to_frame


def write_results(folder: Path, records: Sequence[TrialRecord], title: str) -> list[Path]:
    """Write trials.csv, front.csv, front.html and best.yaml (the knee); whole files or none.

    Raises:
        StorageError: the folder cannot be written, or no trial is complete.
    """
    frame = to_frame(records)
    best = knee(records)
    html = front_figure(records, title).to_html(
        include_plotlyjs=True, full_html=True, default_height="92vh", config=CONFIG
    )
    files = {
        "trials.csv": frame.to_csv(index=False),
        "front.csv": frame[frame["on_front"]].sort_values(best.metric).to_csv(index=False),
        "front.html": html,
        "best.yaml": best.architecture.to_yaml(),
    }
    return [write_whole(folder / name, text) for name, text in files.items()]


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
