"""Open studies for reading or writing, and find their folders.

A study is in the journal file of its folder, or in a PostgreSQL database. This is the only module
that imports `mbsearch.study.postgresql`, and it does so late: SQLAlchemy is slow to import.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import BaseStorage

from mbsearch.errors import NoStudyError, StorageError
from mbsearch.printable_text import require_name
from mbsearch.study.journal import open_journal
from mbsearch.study.lock import driver_lock
from mbsearch.study.store import StudyStore, create_study, load_study, study_names

RESULTS = Path("results")
JOURNAL = "journal.log"


@contextmanager
def drive(
    folder: Path, name: str, database: str | None
) -> Iterator[tuple[StudyStore, Callable[[], None]]]:
    """Lock a study and open it for writing; create it if it does not exist.

    Yields the study, and a function that raises an error if the lock was lost.

    Args:
        folder: folder of the study's files.
        name: name of a new study in a journal; a study in a database has the folder's name.
        database: URL of a PostgreSQL database; None stores the study in the folder's journal.

    Raises:
        StorageError: another run holds the lock, or the storage fails, now or later.
    """
    with driver_lock(folder):
        if database is None:
            journal = open_journal(folder / JOURNAL, create=True)
            # A folder holds one study, whatever the name of the space of this run.
            yield create_study(journal, (*study_names(journal), name)[0]), lambda: None
        else:
            from mbsearch.study.postgresql import drive_database

            with drive_database(database, folder.name) as driven:
                yield driven


def open_database(url: str) -> BaseStorage:
    """Open a PostgreSQL database of studies for reading only.

    Raises:
        StorageError: the database holds no study, or cannot be reached.
    """
    from mbsearch.study.postgresql import connect

    return connect(url, create=False)


def existing_study(folder: Path, database: str | None) -> StudyStore | None:
    """Open the study of a run for reading; None if there is none yet.

    Args:
        folder: of the study's files.
        database: URL of a PostgreSQL database; None for the journal in the folder.

    Raises:
        StorageError: the study is damaged, or the database fails.
    """
    try:
        if database is not None:
            return load_study(open_database(database), folder.name)
        return load_study(open_journal(folder / JOURNAL, create=False))
    except NoStudyError:
        return None


def study_folder(name: str, results: Path = RESULTS) -> Path:
    """Return the folder for the files of a study with this name.

    Raises:
        StorageError: the name is not that of a folder in `results`.
    """
    if Path(name).name != name or name in ("", ".."):
        raise StorageError(f"{results}: expected a study name that can name a folder, got {name!r}")
    try:
        require_name(name)
    except ValueError as expected:
        raise StorageError(f"{results}: expected {expected}, got {name!r}") from None
    return results / name


def results_folder(path: Path) -> Path:
    """Return a study's folder: `path` itself, or the most recently written study in it.

    Raises:
        NoStudyError: there is no study.
    """
    if not path.is_dir():
        raise NoStudyError(
            f"{path}: expected the folder of a study, got no such folder; "
            "make one with `mbsearch run`"
        )
    try:
        os.scandir(path).close()  # a glob of a folder that may not be read finds nothing
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from None
    found = journals(path)
    if not found:
        raise NoStudyError(
            f"{path}: expected the folder of a study, got one without {JOURNAL}; "
            "make one with `mbsearch run`"
        )
    return max(found, key=lambda journal: journal.stat().st_mtime).parent


def location(path: Path | None = None, database: str | None = None) -> str:
    """Return the arguments that name a study on the command line, with ``URL`` for a database.

    Raises:
        StorageError: there is no study.
    """
    return shlex.quote(str(files_of(path, database))) + (" --storage URL" if database else "")


def journals(path: Path) -> list[Path]:
    """Return the journal in a study's folder, or the journals of all studies in a folder."""
    own = path / JOURNAL
    return [own] if own.is_file() else list(path.glob(f"*/{JOURNAL}"))


def files_of(path: Path | None = None, database: str | None = None) -> Path:
    """Return the folder with a study's files, even if the study is in a database.

    Raises:
        StorageError: there is no study.
    """
    if database is None:
        return results_folder(path or RESULTS)
    return beside_database(path) / read_study(path, database).name


def beside_database(path: Path | None) -> Path:
    """Return the folder that contains the folders of a database's studies.

    It is the parent of the `path` to one of them, or ``results``.
    """
    return RESULTS if path is None or path.parent == Path() else path.parent


def read_study(path: Path | None = None, database: str | None = None) -> StudyStore:
    """Open a study in a folder or database for reading.

    Args:
        path: folder of a study, or of several, of which the most recently written is opened;
            ``results`` by default. With `database` its last part is the study's name; without
            it, the database must hold one study only.
        database: URL of a PostgreSQL database.

    Raises:
        NoStudyError: there is no such study.
        StorageError: its journal is damaged, or the database fails.
    """
    if database is None:
        folder = results_folder(path or RESULTS)
        return load_study(open_journal(folder / JOURNAL, create=False))
    return load_study(open_database(database), path.name if path else None)
