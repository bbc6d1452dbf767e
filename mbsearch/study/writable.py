"""Whether files can be written to a folder, found out before time is spent."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mbsearch.errors import StorageError


def require_writable(folder: Path, way_out: str) -> None:
    """Raise an error if a folder, or the one that it would be created in, cannot be written.

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
