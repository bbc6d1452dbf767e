"""Where networks are trained: the driver hands out tasks, an executor brings back their ends."""

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
from pathlib import Path
from types import TracebackType
from typing import Protocol

from mbsearch.errors import DataError, EvaluationError, MbsearchError, StorageError
from mbsearch.execution.protocol import Evaluator, Outcome, Task

_THREADS = "OMP_NUM_THREADS"  # read by the libraries of a process when they are loaded
TASKS_PER_WORKER = 40  # a fresh process now and then keeps the memory of long studies flat
_POLL_SECONDS = 2.0
MAX_DEATHS = 3  # of the workers of one task
MAX_STILLBORN = 10  # workers in a row that die before they are ready


@dataclass(frozen=True, slots=True)
class Finished:
    """A task's end: an outcome, or an error in words.

    `lost` says that the worker died rather than the training: the task may be tried again.
    `trouble` is an error that is not the network's: the images or the disk would fail any other.
    """

    ticket: int
    outcome: Outcome | None = None
    error: str | None = None
    lost: bool = False
    trouble: DataError | StorageError | None = None


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


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, the driver's end of its pipe, and how many tasks it has done.

    `ticket` is that of the task it works on; `ready` says that it has started and may have one.
    """

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    ticket: int | None = None
    done: int = 0


class LocalProcesses:
    """Worker processes on this machine, one torch thread each; a killed one is replaced.

    Each worker has a pipe of its own. Pools share a queue and its locks between their workers, and
    one that is killed at the wrong byte leaves the others waiting for ever.

    Args:
        jobs: how many workers there are at a time.
        prepare: called by each worker before its first task.
        imports: modules that the tasks need, and that take long to import.
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
        """Hand a task to a free worker, or to the next one that is."""
        self._waiting.append((ticket, task))
        self._assign()

    def wait(self, timeout: float) -> list[Finished]:
        """The tasks that ended, waiting at most `timeout` seconds for the first.

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
        # Two that ended together are told in the order in which they were asked for.
        return sorted(ended, key=lambda finished: finished.ticket)

    def close(self) -> None:
        """Kill the workers; what still runs is lost."""
        for worker in self._workers:
            worker.process.kill()
        for worker in list(self._workers):
            self._dismiss(worker)

    def _assign(self) -> None:
        """Give waiting tasks to free workers, and hire as many as the rest needs."""
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
            self._hire()

    def _hire(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        arguments = (theirs, dict(os.environ), self._evaluator, self._prepare)
        try:
            with _importable_main():
                server = _fork_server(self._imports)
                context = server or multiprocessing.get_context("spawn")
                process = context.Process(target=_work, args=arguments, name="mbsearch worker")
                with nullcontext() if server else _bequeathed():  # waiting for forks, Ctrl-C counts
                    process.start()
        except (EOFError, OSError) as error:
            ours.close()
            self._mourn(f"the process that forks them: {error or 'it was killed'}")
        else:
            self._workers.append(_Worker(process, ours))
        finally:
            theirs.close()  # so that the worker's death is the end of the pipe

    def _dismiss(self, worker: _Worker) -> None:
        """Take a worker off the list; a living one ends with its pipe."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.join(timeout=10)

    def _listen(self, worker: _Worker) -> Finished | None:
        """What a worker says: that it is ready, the end of its task, or that it died."""
        try:
            finished: Finished | None = worker.pipe.recv()
        except (EOFError, OSError):  # also where it was killed in the middle of its answer
            return self._bury(worker)
        worker.ready, worker.ticket = True, None
        if finished is None:
            self._stillborn = 0
            return None
        worker.done += 1
        if worker.done == TASKS_PER_WORKER:
            self._dismiss(worker)
        return finished

    def _bury(self, worker: _Worker) -> Finished | None:
        """Dismiss a worker that died: its task, if it had one, is lost."""
        self._dismiss(worker)
        cause = _cause(worker.process.exitcode)
        if worker.ticket is not None:
            error = f"its worker process died ({cause})"
            return Finished(worker.ticket, error=error, lost=True)
        if not worker.ready:
            self._mourn(cause)
        return None

    def _mourn(self, cause: str) -> None:
        """Take up that a worker died before it was ready; too many in a row are an error."""
        self._stillborn += 1
        if self._stillborn > MAX_STILLBORN:
            raise EvaluationError(
                f"workers die as soon as they are started ({cause}), {self._stillborn} in a "
                'row; a script that calls mbsearch must do it under `if __name__ == "__main__"`'
            )


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {code}"


def _fork_server(imports: Sequence[str]) -> ForkServerContext | None:
    """A running process that has done the imports, if there are any, and forks workers.

    Only on Linux: the libraries of other systems do not bear a fork.
    """
    if not imports or sys.platform != "linux":
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(imports))
    with _bequeathed():
        forkserver.ensure_running()
    return context


@contextmanager
def _importable_main() -> Iterator[None]:
    """Hide the file of a main module that is none, as ``<stdin>``: workers would import it."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or Path(file).exists():
        yield
        return
    main.__file__ = None
    try:
        yield
    finally:
        main.__file__ = file


@contextmanager
def _bequeathed() -> Iterator[None]:
    """What is started meanwhile computes with one thread, and leaves Ctrl-C to this process.

    Workers see to both as well, but only after their imports.
    """
    resource_tracker.ensure_running()  # its start lets Ctrl-C in again
    threads = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"
    try:
        with _held_back(signal.SIGINT):
            yield
    finally:
        if threads is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = threads


@contextmanager
def _held_back(sent: signal.Signals) -> Iterator[None]:
    """A signal to this process has its effect afterwards, and to a child started meanwhile none."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {sent})
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
    """Say that it is ready with a None, then answer tasks until the pipe ends.

    A worker is a good child: deaf to Ctrl-C, which is the driver's, and gone when it is.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ.update(environment)  # the process that it was forked from may be older
    if prepare is not None:
        prepare()
    with suppress(EOFError, OSError):  # the driver has gone
        pipe.send(None)
        while True:
            ticket, task = pipe.recv()
            pipe.send(evaluated(evaluator, ticket, task))


def evaluated(evaluator: Evaluator, ticket: int, task: Task) -> Finished:
    """The end of a task in this process; an error is put into words, for it may not travel."""
    try:
        return Finished(ticket, outcome=evaluator.evaluate(task))
    except (DataError, StorageError) as error:
        return Finished(ticket, error=str(error), trouble=error)
    except MbsearchError as error:
        return Finished(ticket, error=str(error))
    except Exception as error:
        return Finished(ticket, error=f"{type(error).__name__}: {error}")


def die_with_parent() -> None:
    """End this process once the one that asked for it has gone; for a thread of its own."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def settled(executor: Executor, tasks: Sequence[Task]) -> Iterator[Finished]:
    """The end of each task, as it comes; its ticket is its place in `tasks`.

    A task whose worker died is done again, and only its last death is its end.

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


def usable_cores() -> int:
    """The cores of this machine, as far as this process may use them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
