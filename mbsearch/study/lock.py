"""Lock of a study's folder, held by the one process that may run it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbsearch.errors import StorageError


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a study's folder; the kernel releases it when the process ends.

    Raises:
        StorageError: another process holds it (its pid is named), or the folder is not writable.
    """
    path = folder / "driver.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode() or "unknown"
            raise StorageError(
                f"{folder}: the study is being run by process {pid}; wait for it or stop it, "
                "or give this run another --name"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
