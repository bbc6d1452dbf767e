"""The journal file of a study: Optuna's journal storage, robust against killed processes.

Optuna's own file locks stall or spin after their owner is killed, and an incomplete last line makes
its journal unreadable. Here the kernel releases the lock with its owner, and the next owner trims
an incomplete last line.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from mbsearch.errors import StorageError


class FlockTrimLock(JournalFileOpenLock):
    """Exclusive ``flock`` on a file beside the journal; removes an incomplete last line.

    It inherits only the type from its parent: Optuna checks it.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        self._lock_path = journal.with_name(journal.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock, then remove an incomplete last line of the journal."""
        descriptor = os.open(self._lock_path, os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        trim_torn_line(self._journal)
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class JournalFile(JournalFileBackend):
    """Optuna's journal file, synced to disk once per trial instead of once per parameter.

    A kill loses no line that was written; a power cut may lose lines after the last sync. Lines of
    parameters are not synced: the lines of the trial that follow them are.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._own_lock = journal, FlockTrimLock(journal)
        super().__init__(str(journal), lock_obj=self._own_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append log entries as lines of JSON, and sync them unless they are parameters."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._own_lock.acquire()
        try:
            with self._journal.open("ab") as file:
                file.write(lines.encode())
                if not all("param_name" in log for log in logs):
                    file.flush()
                    os.fsync(file.fileno())
        finally:
            self._own_lock.release()


def trim_torn_line(journal: Path) -> None:
    """Truncate a journal after its last newline."""
    with journal.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def open_journal(path: Path, *, create: bool) -> JournalStorage:
    """Open a study's journal as an Optuna storage.

    Raises:
        StorageError: there is no journal (without `create`), it cannot be written, or it is
            damaged; the message names a damaged line.
    """
    # Optuna opens the file again by its path, also after the working folder has changed.
    path = path.resolve()
    if not create and not path.is_file():
        raise StorageError(f"{path.parent}: expected a study, got no {path.name} in this folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if create:
            path.touch()
            if not os.access(path, os.W_OK):
                raise PermissionError(13, "Permission denied")
        return JournalStorage(JournalFile(path))
    except OSError as error:
        raise StorageError(f"{path}: cannot be opened: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise StorageError(_damage(path)) from None


def _damage(path: Path) -> str:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                if isinstance(json.loads(line), dict):
                    continue
            except ValueError:
                pass
            return (
                f"{path}:{number}: the study is damaged: expected a line of JSON, "
                f"got {line[:40]!r}; restore the file from a copy (without that line, trials after "
                "it could be lost)"
            )
    return f"{path}: the study is damaged: its lines are JSON but not an Optuna journal"
