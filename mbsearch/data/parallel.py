"""Map a function over items in threads, in order."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from mbsearch.execution.capacity import usable_cores
from mbsearch.progress import CountLines, OnProgress, Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

MEMORY = 2 << 30
"""Bytes that the images decoded at the same time may take; a larger one is decoded alone."""

_REPORT_SECONDS = 0.1
_AHEAD = 4  # chunks per thread that are computed before the first of them is used

_LOGGER = logging.getLogger(__name__)


class MemoryBound:
    """Limits the memory that threads use: each waits until its bytes are free."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Reserve `size` bytes, at most the whole limit, while the block runs."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._used + size <= self._size)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], chunk: int
) -> Iterator[Result]:
    """Yield the function's results in item order; a thread takes `chunk` items at a time.

    Few results are held at a time, however slowly they are used.
    """

    def run(part: list[Item]) -> list[Result]:
        return [function(item) for item in part]

    threads = usable_cores()
    iterator = iter(items)
    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(threads, "mbsearch-images") as pool:
        try:
            while True:
                while len(waiting) < _AHEAD * threads and (part := list(islice(iterator, chunk))):
                    waiting.append(pool.submit(run, part))
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def reported(
    results: Iterable[Result], phase: str, total: int, on_progress: OnProgress | None
) -> Iterator[Result]:
    """Yield the results, and report progress at most ten times a second (to the log by default)."""
    report = CountLines(_LOGGER.info) if on_progress is None else on_progress
    shown = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if now - shown >= _REPORT_SECONDS or done == total:
            report(Progress(phase, done, total))
            shown = now
