"""Progress events of long tasks, and their output as lines of text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


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
        curves: validation accuracy after each epoch of the running trainings, by trial.
    """

    phase: str
    completed: int
    total: int | None = None
    running: int = 0
    seconds_left: float | None = None
    detail: str = ""
    message: str | None = None
    curves: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


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


class TimeLeft:
    """Estimate the remaining time of a task from the mean time of its completed units.

    There is an estimate from the third unit on. It starts anew with a task that counts from the
    beginning.
    """

    _FEWEST = 3

    def __init__(self) -> None:
        self._first: Progress | None = None
        self._last = 0
        self._start = 0.0

    def __call__(self, event: Progress) -> float | None:
        """Return the remaining seconds after an event; None if they are unknown."""
        if self._first is None or event.completed < self._last:
            self._first, self._start = event, time.monotonic()
        self._last = event.completed
        if event.seconds_left is not None:
            return event.seconds_left
        done = event.completed - self._first.completed
        if event.total is None or done < self._FEWEST:
            return None
        return (time.monotonic() - self._start) / done * (event.total - event.completed)
