"""Which operating systems mbsearch runs on."""

from __future__ import annotations

import sys

from mbsearch.errors import StorageError


def require_supported_system() -> None:
    """Raise an error on Windows.

    Raises:
        StorageError: studies are locked by a function that this system lacks.
    """
    if sys.platform == "win32":
        raise StorageError(
            "expected Linux or macOS, whose file locks protect a study, got Windows; "
            "mbsearch runs there in WSL 2 (Windows Subsystem for Linux)"
        )
