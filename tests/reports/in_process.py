"""The command line in this process, with trainings in it too: studies in a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from mbsearch.execution.local import Finished, evaluated
from mbsearch.execution.protocol import Evaluator, Task
from mbsearch.training.devices import torch_threads


class InThisProcess:
    """Workers that are no processes."""

    slots = 1

    def __init__(
        self,
        evaluator: Evaluator,
        jobs: int = 1,
        prepare: Callable[[], None] | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        self._evaluator = evaluator
        self._waiting: list[tuple[int, Task]] = []

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task."""
        self._waiting.append((ticket, task))

    def wait(self, timeout: float) -> list[Finished]:
        """Run the first task."""
        if not self._waiting:
            time.sleep(timeout)
            return []
        ticket, task = self._waiting.pop(0)
        return [evaluated(self._evaluator, ticket, task)]

    def close(self) -> None:
        """Drop what was not begun."""
        self._waiting.clear()


@contextmanager
def training_in_this_process() -> Iterator[None]:
    """Let searches and retrainings train in this process, with one thread as a worker does."""
    with (
        patch("mbsearch.study_run.LocalProcesses", InThisProcess),
        patch("mbsearch.retraining.workers.LocalProcesses", InThisProcess),
        torch_threads(1),
    ):
        yield
