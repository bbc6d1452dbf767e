"""Locks of files by ``flock``, which the kernel releases when the process ends, even if killed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbsearch.errors import StorageError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some NFS and Lustre


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Lock a study's folder, so that only one process at a time runs the study.

    Raises:
        StorageError: another process holds it (its pid is named), the folder is not writable, or
            its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}") from None
    with _opened(folder / "driver.lock") as descriptor:
        try:
            _lock(descriptor, folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode() or "unknown"
            raise StorageError(
                f"{folder}: the study is being run by process {pid}; wait for it or stop it, "
                "or give this run another --name"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for the lock of a lock file, and hold it.

    Raises:
        StorageError: it is not writable, or its file system has no locks.
    """
    with _opened(path) as descriptor:
        _lock(descriptor, path.parent, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise StorageError(f"{path}: expected a file, got a link; remove it") from None
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise StorageError(
            f"{folder}: its file system has no file locks ({error.strerror}); put the study in a "
            "folder of a local disk (--results), or in PostgreSQL (--storage)"
        ) from None
