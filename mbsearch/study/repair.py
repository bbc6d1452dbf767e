"""Copy the undamaged part of a damaged study into a new study."""

from __future__ import annotations

import shutil
from pathlib import Path

from mbsearch.errors import StorageError
from mbsearch.study.journal import DamagedJournalError, open_journal
from mbsearch.study.opening import JOURNAL

_LEFT = shutil.ignore_patterns(
    JOURNAL, "*.lock", ".*.part", "trials.csv", "front.csv", "front.html", "best.yaml"
)
"""Files that are not copied: locks, temporary files, and results that the next run writes."""


def repaired_folder(folder: Path) -> Path:
    """Copy a journal up to its damage, and the files beside it; return the new folder.

    The damaged study is not changed.

    Raises:
        StorageError: the study is not damaged, the new folder exists, or it cannot be written.
    """
    journal, target = folder / JOURNAL, folder.with_name(f"{folder.resolve().name}-repaired")
    try:
        open_journal(journal, create=False)
    except DamagedJournalError as damage:
        whole = _first_lines(journal, damage.line - 1)
    else:
        raise StorageError(f"{folder}: expected a damaged study with --repair, got a whole one")
    try:
        shutil.copytree(folder, target, ignore=_LEFT)
        (target / JOURNAL).write_bytes(whole)
    except FileExistsError:
        raise StorageError(
            f"{target}: expected no such folder for the repaired study; move or delete it"
        ) from None
    except OSError as error:  # copytree gathers the errors of all files
        raise StorageError(f"{target}: cannot be written: {error.strerror or error}") from None
    return target


def _first_lines(journal: Path, lines: int) -> bytes:
    with journal.open("rb") as file:
        return b"".join(file.readline() for _ in range(lines))
