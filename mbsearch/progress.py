"""What a run shows while it runs: a bar with the time left, and a line for each better network."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mbsearch.cost.units import amount
from mbsearch.search.driver import Progress as DriverProgress
from mbsearch.study.records import Fidelity, State

_WORDS = {Fidelity.SCREENING: "", Fidelity.PROMOTION: ", promotion", Fidelity.FINAL: ", final"}
_LINE_SECONDS = 5.0  # between lines of progress where there is no bar
_ENDLESS = 10**8  # a search by time has no number of trials to count towards


class RunDisplay:
    """Shows a driver's progress on a console; plain lines where it is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_interactive,  # else its last state is a line among ours
        )
        self._task = self._progress.add_task("starting", total=None)
        self._ended = 0
        self._line_at = time.monotonic() + _LINE_SECONDS

    def __enter__(self) -> RunDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._progress.stop()

    def start(self, done: int, target: int) -> None:
        """Say how far the study is, unless it is new."""
        if done >= target:
            self._console.print(f"{done} of {target} done; --trials {target + 100} for more")
        elif done:
            total = f" of {target}" if target < _ENDLESS else ""
            self._console.print(f"resuming: {done}{total} trials are done")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def images(self, noun: str, done: int, total: int) -> None:
        """Move the bar of images that are read; a line every few seconds without a terminal."""
        self._progress.update(self._task, description=noun, total=total, completed=done)
        if not self._console.is_interactive and time.monotonic() >= self._line_at:
            self.say(f"{noun}: {done:,} of {total:,}")
            self._line_at = time.monotonic() + _LINE_SECONDS

    def preparation(self, noun: str, done: int, steps: int, loss: float) -> None:
        """Move the bar of a training before the search; `loss` in nats."""
        self._progress.update(
            self._task, description=f"{noun}, loss {loss:.2f}", total=steps, completed=done
        )
        if done == steps:
            self._console.print(f"{noun} trained: {steps:,} steps, loss {loss:.2f}")

    def trainings(self, done: int, total: int) -> None:
        """Move the bar of trainings that are all alike."""
        self._progress.update(self._task, description="audit", total=total, completed=done)

    def update(self, progress: DriverProgress) -> None:
        """Move the bar; print the trial that ended, if one did."""
        trial = progress.trial
        if trial is not None:
            self._ended += 1
            what = trial.architecture.name if trial.is_baseline else "search"
            what += _WORDS[progress.fidelity]
            end = (
                f"accuracy {trial.accuracy:.3f}"
                if trial.state is State.COMPLETE
                else f"{trial.error}"
                if trial.state is State.PRUNED
                else f"{trial.state}: {trial.error}"
            )
            self._console.print(
                f"trial {trial.trial} ({what}): {end}, {amount(trial.metric, trial.cost)}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        self._progress.update(
            self._task,
            description=f"{progress.phase}, {progress.running} running",
            total=self._ended + progress.left if progress.left < _ENDLESS else None,
            completed=self._ended,
        )
