"""``progress.json``: what a run is doing, for other processes; it exists only during a run."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mbsearch.errors import StorageError
from mbsearch.progress import OnProgress, Progress
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.json_files import read_json

PROGRESS = "progress.json"
_INTERVAL = 2.0  # seconds between two writes
_LIFETIME = 60.0  # seconds after which a run that has not written is taken for killed
_MESSAGES = 20


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The last progress event of a run, its last messages, and the time when it was written.

    `curves` has the validation accuracy after each epoch of the running trainings, by trial.
    """

    phase: str
    completed: int
    total: int | None
    running: int
    seconds_left: float | None
    written: float
    curves: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    messages: tuple[str, ...] = ()

    @staticmethod
    def read(folder: Path) -> RunProgress | None:
        """Read the progress of a study's current run; None if there is none or it was killed."""
        with suppress(StorageError):  # a display has nothing to say about a damaged file
            found = read_json(folder / PROGRESS, "run", RunProgress._decoded)
            if found is not None and abs(time.time() - found.written) < _LIFETIME:
                return found
        return None

    @staticmethod
    def _decoded(data: Any) -> RunProgress:
        curves = {int(trial): tuple(curve) for trial, curve in data.pop("curves").items()}
        return RunProgress(**{**data, "messages": tuple(data["messages"])}, curves=curves)


@contextmanager
def published_progress(folder: Path, on_progress: OnProgress) -> Iterator[OnProgress]:
    """Yield a callback that calls `on_progress` and writes events into a study's folder.

    It writes at most every two seconds, and the file is removed at the end. A full disk does not
    end the run here: the study itself reports it.
    """
    messages: deque[str] = deque(maxlen=_MESSAGES)
    last = -_INTERVAL

    def publish(event: Progress) -> None:
        nonlocal last
        on_progress(event)
        if event.message is not None:
            messages.append(event.message)
        if time.monotonic() < last + _INTERVAL:
            return
        last = time.monotonic()
        now = RunProgress(
            event.phase,
            event.completed,
            event.total,
            event.running,
            event.seconds_left,
            time.time(),
            event.curves,
            tuple(messages),
        )
        with suppress(StorageError):
            write_atomically(folder / PROGRESS, json.dumps(asdict(now)), exclusive=True)

    try:
        yield publish
    finally:
        with suppress(OSError):
            (folder / PROGRESS).unlink(missing_ok=True)
