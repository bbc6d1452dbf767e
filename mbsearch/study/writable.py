"""Check that files can be written to a folder, before time is spent on their content."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mbsearch.errors import StorageError


def require_writable(folder: Path, way_out: str) -> None:
    """Raise an error if a folder (or its nearest existing parent) is not writable.

    Nothing is left behind.

    Args:
        folder: that may not exist yet.
        way_out: end of the message: what to do.

    Raises:
        StorageError: a file cannot be created there.
    """
    place = next((each for each in (folder, *folder.parents) if each.exists()), Path())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        at = "" if place == folder else f"{place}: "
        raise StorageError(
            f"{folder}: cannot be written: {at}{error.strerror}; {way_out}"
        ) from None
