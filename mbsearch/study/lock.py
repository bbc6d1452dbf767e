"""One driver a study: a second one is refused while the first lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mbsearch.errors import StorageError
from mbsearch.study.journal import open_journal
from mbsearch.study.store import JOURNAL, StudyStore, create_study, study_names


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Hold the study's folder; the kernel lets go of it with the process, even after kill -9.

    Raises:
        StorageError: another driver holds it (its pid is named), or the folder is not writable.
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
                "or go by another --name"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def drive(
    folder: Path, name: str, database: str | None
) -> Iterator[tuple[StudyStore, Callable[[], None]]]:
    """Open a study for its only driver, making it where it does not exist.

    It lives in the journal of its folder, or in a database under the folder's name. With it comes
    a function that raises when the study is no longer held.

    Args:
        folder: of the study's files.
        name: of a new study in a journal.
        database: a PostgreSQL URL.

    Raises:
        StorageError: another driver holds the study, or its storage fails, also later.
    """
    with driver_lock(folder):
        if database is None:
            journal = open_journal(folder / JOURNAL, create=True)
            # One study a folder, also where another space's name comes with it.
            yield create_study(journal, (*study_names(journal), name)[0]), lambda: None
        else:
            from mbsearch.study.postgresql import drive_database  # SQLAlchemy is slow to import

            with drive_database(database, folder.name) as driven:
                yield driven
