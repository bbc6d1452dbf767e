"""Progress events of long tasks, and their output as lines of text."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a long task.

    Args:
        phase: the current part of the task, as ``search`` or ``finals``.
        completed: units of work that are completed in this phase: trainings, or steps of one.
        total: units of the phase; None if unknown.
        running: trainings that are running.
        seconds_left: remaining time; None if unknown.
        detail: a value that changes with every event, as the loss.
        message: one line about what has just completed; None if nothing has.
    """

    phase: str
    completed: int
    total: int | None = None
    running: int = 0
    seconds_left: float | None = None
    detail: str = ""
    message: str | None = None


OnProgress = Callable[[Progress], None]
"""Receives every progress event of a task."""


def ignore_progress(_event: Progress) -> None:
    """Discard a progress event."""


class CountLines:
    """Writes the counts of progress events as lines of text, at most one every five seconds.

    Args:
        write: receives each line.
    """

    _SECONDS = 5.0

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._next = time.monotonic() + self._SECONDS

    def __call__(self, event: Progress) -> None:
        """Write the count of an event, unless the last line is less than five seconds old."""
        if event.total is not None and time.monotonic() >= self._next:
            self._write(f"{event.phase}: {event.completed:,} of {event.total:,}")
            self._next = time.monotonic() + self._SECONDS
