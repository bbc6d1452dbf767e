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
from mbsearch.progress import CountLines, Progress, TimeLeft


class ProgressDisplay:
    """Shows the progress events of a task on a console.

    On a terminal there is a bar with the time left. Elsewhere every message is one plain line with
    the time left, and preparations before the first training have a line every five seconds. The
    time left is estimated from the third training on.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(
            SpinnerColumn("line" if console.options.ascii_only else "dots"),
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
        self._time_left = TimeLeft()
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
        left = self._time_left(event)
        if event.message is not None:
            ends = ""
            if left is not None and round(left) > 0 and not self._console.is_interactive:
                ends = f" (left {_clock(left)})"
            print_line(self._console, event.message + ends)
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
            seconds_left=left,
        )


class _TimeLeftColumn(TextColumn):
    """Column with the time left as estimated at the last event; dashes without an estimate."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: BarTask) -> Text:
        """Return the remaining time as ``h:mm:ss``."""
        seconds = task.fields["seconds_left"]
        text = "-:--:--" if seconds is None else _clock(seconds)
        return Text(text, style="progress.remaining")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
