"""Show progress events as a bar on a terminal, and as plain lines elsewhere."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar
from rich.progress import Task as BarTask
from rich.text import Text

from mbsearch.display.console_log import print_line
from mbsearch.progress import CountLines, Progress


class ProgressDisplay:
    """Shows the progress events of a task on a console.

    On a terminal there is a bar with the time left. Elsewhere every message is one plain line, and
    preparations before the first training have a line every five seconds.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            _TimeLeftColumn(),
            console=console,
            transient=True,
            disable=not console.is_interactive,  # the last state of a bar would be a line
        )
        self._print_count = CountLines(partial(print_line, console))
        self._task = self._bar.add_task("starting", total=None, seconds_left=None)

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, event: Progress) -> None:
        """Print an event's message, and update the bar."""
        if event.message is not None:
            print_line(self._console, event.message)
        elif not self._console.is_interactive and not event.running:
            self._print_count(event)
        parts = [event.phase]
        if event.running:
            parts.append(f"{event.running} running")
        if event.detail:
            parts.append(event.detail)
        self._bar.update(
            self._task,
            description=", ".join(parts),
            total=event.total,
            completed=event.completed,
            seconds_left=event.seconds_left,
        )


class _TimeLeftColumn(TextColumn):
    """Column with the remaining time, from the last event or estimated from the speed."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: BarTask) -> Text:
        """Return the remaining time as ``h:mm:ss``."""
        left = task.fields["seconds_left"]
        seconds = task.time_remaining if left is None else left
        if seconds is None:
            return Text("-:--:--", style="progress.remaining")
        return Text(str(timedelta(seconds=int(seconds))), style="progress.remaining")
