"""Where networks are trained: the driver hands out tasks, an executor brings back their ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from pebble import ProcessExpired, ProcessPool

from mbsearch.errors import MbsearchError
from mbsearch.search.evaluator import Evaluator, Outcome, Task

TASKS_PER_WORKER = 40  # a fresh process now and then keeps the memory of long studies flat


@dataclass(frozen=True, slots=True)
class Finished:
    """A task's end: an outcome, or an error in words.

    `lost` says that the worker died rather than the training: the task may be tried again.
    """

    ticket: int
    outcome: Outcome | None = None
    error: str | None = None
    lost: bool = False


class Executor(Protocol):
    """Runs tasks somewhere, several at a time."""

    @property
    def slots(self) -> int:
        """How many tasks it runs at once."""

    def submit(self, ticket: int, task: Task) -> None:
        """Start a task under a number of the caller's."""

    def wait(self, timeout: float) -> list[Finished]:
        """The tasks that ended, waiting at most `timeout` seconds for the first."""

    def close(self) -> None:
        """Stop at once; what still runs is lost."""


class LocalProcesses:
    """Worker processes on this machine, one torch thread each; a killed one is replaced."""

    def __init__(
        self, evaluator: Evaluator, jobs: int, prepare: Callable[[], None] | None = None
    ) -> None:
        self.slots = jobs
        self._evaluator = evaluator
        self._futures: dict[Future[Outcome], int] = {}
        self._pool = ProcessPool(
            max_workers=jobs,
            max_tasks=TASKS_PER_WORKER,
            initializer=_start_worker,
            initargs=(os.getpid(), prepare),
            context=multiprocessing.get_context("spawn"),
        )

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def submit(self, ticket: int, task: Task) -> None:
        """Hand a task to the next free worker."""
        future = self._pool.schedule(self._evaluator.evaluate, args=(task,))
        self._futures[future] = ticket

    def wait(self, timeout: float) -> list[Finished]:
        """The tasks that ended, waiting at most `timeout` seconds for the first."""
        done, _ = wait(self._futures, timeout=timeout, return_when=FIRST_COMPLETED)
        # Two that ended together are told in the order in which they were asked for.
        return [_finished(self._futures.pop(f), f) for f in sorted(done, key=self._futures.get)]  # type: ignore[arg-type]

    def close(self) -> None:
        """Kill the workers; what still runs is lost."""
        self._pool.stop()
        self._pool.join(timeout=10)


def _finished(ticket: int, future: Future[Outcome]) -> Finished:
    error = future.exception()
    if error is None:
        return Finished(ticket, outcome=future.result())
    if isinstance(error, ProcessExpired):
        return Finished(ticket, error=f"its worker process died ({_cause(error)})", lost=True)
    if isinstance(error, MbsearchError):
        return Finished(ticket, error=str(error))
    return Finished(ticket, error=f"{type(error).__name__}: {error}")


def _cause(error: ProcessExpired) -> str:
    code = error.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {code}"


def _start_worker(driver: int, prepare: Callable[[], None] | None) -> None:
    """Make a worker a good child: deaf to Ctrl-C, which is the driver's, and gone when it is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(driver,), daemon=True).start()
    if prepare is not None:
        prepare()


def _follow(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)
