"""The event that long tasks emit about their progress."""

from __future__ import annotations

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
