"""The interface of executors, and the executor that uses processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Protocol

from mbsearch.errors import DataError, EvaluationError, MbsearchError, StorageError
from mbsearch.execution.main_module import (
    UNGUARDED,
    hidden_main,
    needs_main,
    unguarded_error,
)
from mbsearch.execution.protocol import Evaluator, Outcome, Task

_THREADS = "OMP_NUM_THREADS"  # read by the libraries of a process when they are loaded
TASKS_PER_WORKER = 40  # a fresh process now and then keeps the memory of long studies flat
_POLL_SECONDS = 2.0
_INTERRUPTS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
MAX_DEATHS = 3  # of the workers of one task
_UNPREPARED = -1  # ticket of the message of a worker that cannot start
MAX_STILLBORN = 10  # workers in a row that die before they are ready


@dataclass(frozen=True, slots=True)
class Finished:
    """Result of a task: an outcome, or an error message.

    `lost` is true if the worker died: the task may be tried again. `trouble` is an error of
    the images or the disk, which would fail every other network too.
    """

    ticket: int
    outcome: Outcome | None = None
    error: str | None = None
    lost: bool = False
    trouble: DataError | StorageError | None = None


class Executor(Protocol):
    """Interface for running several tasks at a time."""

    @property
    def slots(self) -> int:
        """Number of tasks that can run at the same time."""

    def submit(self, ticket: int, task: Task) -> None:
        """Start a task; its result will have the same ticket."""

    def wait(self, timeout: float) -> list[Finished]:
        """Wait at most `timeout` seconds for a task to end; return all results available."""

    def close(self) -> None:
        """Stop at once, without waiting for running tasks."""


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker process, its pipe, and the number of tasks that it has completed.

    `ticket` is that of its running task; `ready` is true once it accepts tasks.
    """

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    ticket: int | None = None
    done: int = 0


class LocalProcesses:
    """Executor with worker processes on this machine, one torch thread each.

    Each worker has its own pipe. The workers of a pool share a queue and its locks: one that is
    killed while it holds a lock would block the others for ever.

    Args:
        evaluator: trains the networks.
        jobs: number of workers.
        prepare: called by each worker before its first task.
        imports: modules that the tasks need and that are slow to import.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        jobs: int,
        prepare: Callable[[], None] | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        self.slots = jobs
        self._evaluator, self._prepare, self._imports = evaluator, prepare, imports
        self._needs_main = needs_main(evaluator)
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[int, Task]] = deque()
        self._stillborn = 0

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
        """Send a task to a free worker, or queue it."""
        self._waiting.append((ticket, task))
        self._assign()

    def wait(self, timeout: float) -> list[Finished]:
        """Wait at most `timeout` seconds for a task to end; return all results available.

        Raises:
            EvaluationError: workers die as soon as they are started.
        """
        deadline = time.monotonic() + timeout
        ended: list[Finished] = []
        while not ended and (left := deadline - time.monotonic()) > 0:
            talking = wait([worker.pipe for worker in self._workers], left)
            for worker in [worker for worker in self._workers if worker.pipe in talking]:
                finished = self._listen(worker)
                if finished is not None:
                    ended.append(finished)
            self._assign()
        # The order of simultaneous ends is that of their tasks, so that a run is reproducible.
        return sorted(ended, key=lambda finished: finished.ticket)

    def close(self) -> None:
        """Kill the workers that run a task, without waiting for it; the others exit."""
        for worker in self._workers:
            # A worker that is killed leaves its semaphores behind, which Python reports at exit.
            if worker.ticket is not None or not worker.ready:
                worker.process.kill()
        for worker in list(self._workers):
            self._dismiss(worker)

    def _assign(self) -> None:
        """Send queued tasks to free workers; start workers for tasks that are still queued."""
        for worker in [w for w in self._workers if w.ready and w.ticket is None]:
            if not self._waiting:
                return
            try:
                worker.pipe.send(self._waiting[0])
            except OSError:  # it was killed while it was idle
                self._dismiss(worker)
            else:
                worker.ticket, _ = self._waiting.popleft()
        starting = sum(not worker.ready for worker in self._workers)
        for _ in range(min(len(self._waiting) - starting, self.slots - len(self._workers))):
            self._start_worker()

    def _start_worker(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        arguments = (theirs, dict(os.environ), self._evaluator, self._prepare)
        try:
            with hidden_main(hidden=not self._needs_main):
                server = _fork_server(self._imports)
                context = server or multiprocessing.get_context("spawn")
                process = context.Process(target=_work, args=arguments, name="mbsearch worker")
                # The server has this environment already; while it forks, Ctrl-C must work.
                with nullcontext() if server else _worker_environment():
                    process.start()
        except (EOFError, OSError) as error:
            ours.close()
            self._count_stillborn(f"the process that forks them: {str(error) or 'it was killed'}")
        else:
            self._workers.append(_Worker(process, ours))
        finally:
            theirs.close()  # then the pipe ends when the worker dies

    def _dismiss(self, worker: _Worker) -> None:
        """Remove a worker, which exits when its pipe closes."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(timeout=10)

    def _listen(self, worker: _Worker) -> Finished | None:
        """Read a worker's message; return the result if a task ended or was lost."""
        try:
            finished: Finished | None = worker.pipe.recv()
        except (EOFError, OSError):  # it was killed, perhaps in the middle of a message
            return self._remove_dead(worker)
        if finished is not None and not worker.ready:
            self._dismiss(worker)
            self._count_stillborn(str(finished.error))
            return None
        worker.ready, worker.ticket = True, None
        if finished is None:
            self._stillborn = 0
            return None
        worker.done += 1
        if worker.done == TASKS_PER_WORKER:
            self._dismiss(worker)
        return finished

    def _remove_dead(self, worker: _Worker) -> Finished | None:
        """Remove a dead worker; if it had a task, return a result that marks the task as lost."""
        self._dismiss(worker)
        if worker.process.exitcode == UNGUARDED:
            raise unguarded_error() from None
        cause = _cause(worker.process.exitcode)
        if worker.ticket is not None:
            error = f"its worker process died ({cause})"
            return Finished(worker.ticket, error=error, lost=True)
        if not worker.ready:
            self._count_stillborn(cause)
        return None

    def _count_stillborn(self, cause: str) -> None:
        """Count a worker that died before it was ready; raise an error if too many did."""
        self._stillborn += 1
        if self._stillborn > MAX_STILLBORN:
            raise EvaluationError(
                f"workers die as soon as they are started ({cause}), {self._stillborn} in a row"
            )


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {code}"


def _fork_server(imports: Sequence[str]) -> ForkServerContext | None:
    """Return a context whose fork server has already imported these modules.

    None without imports, and on other systems than Linux, whose libraries may crash after a fork.
    """
    if not imports or sys.platform != "linux":
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imports))
    with _worker_environment():
        forkserver.ensure_running()
    return context


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Start processes with one thread each that ignore Ctrl-C, SIGTERM and SIGHUP.

    Workers also do both themselves, but only after their imports.
    """
    resource_tracker.ensure_running()  # its start unblocks signals
    threads = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        with _blocked(_INTERRUPTS):
            yield
    finally:
        if threads is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = threads


@contextmanager
def _blocked(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Block signals; child processes started meanwhile inherit the block."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(
    pipe: Connection,
    environment: Mapping[str, str],
    evaluator: Evaluator,
    prepare: Callable[[], None] | None,
) -> None:
    """Main function of a worker: announce readiness, then run tasks until the pipe closes.

    A worker whose preparation fails sends the error instead of None, and exits. A worker ignores
    Ctrl-C, SIGTERM and SIGHUP, which a terminal or a scheduler sends to all processes of a run, and
    exits with the driver.
    """
    for each in _INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ.update(environment)  # that of the fork server may be older
    with suppress(EOFError, OSError):  # the driver has gone
        try:
            if prepare is not None:
                prepare()
        except Exception as error:
            pipe.send(Finished(_UNPREPARED, error=f"{type(error).__name__}: {error}"))
            return
        pipe.send(None)
        while True:
            ticket, task = pipe.recv()
            pipe.send(evaluated(evaluator, ticket, task))


def evaluated(evaluator: Evaluator, ticket: int, task: Task) -> Finished:
    """Run a task in this process; return a result with its outcome, or its error as text."""
    try:
        outcome = evaluator.evaluate(task)
        if outcome.evaluation.curve:
            return Finished(ticket, outcome=outcome)
        return Finished(ticket, error="expected a learning curve of one epoch or more, got none")
    except (DataError, StorageError) as error:
        return Finished(ticket, error=str(error), trouble=error)
    except MbsearchError as error:
        return Finished(ticket, error=str(error))
    except Exception as error:
        return Finished(ticket, error=f"{type(error).__name__}: {error}")


def die_with_parent() -> None:
    """Wait until the parent process has exited, then exit this process."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def settled(executor: Executor, tasks: Sequence[Task]) -> Iterator[Finished]:
    """Run tasks and yield results as they complete; each ticket is an index into `tasks`.

    A task whose worker died is tried again, up to MAX_DEATHS times.

    Raises:
        DataError: the images cannot be used.
        StorageError: a file that workers need cannot be used.
    """
    for ticket, task in enumerate(tasks):
        executor.submit(ticket, task)
    deaths: Counter[int] = Counter()
    left = len(tasks)
    while left:
        for finished in executor.wait(_POLL_SECONDS):
            if finished.trouble is not None:
                raise finished.trouble
            ticket = finished.ticket
            if finished.lost and deaths[ticket] < MAX_DEATHS:
                deaths[ticket] += 1
                executor.submit(ticket, tasks[ticket])
            else:
                left -= 1
                yield finished
