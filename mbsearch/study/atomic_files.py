"""Files that a reader, a full disk or a kill never leaves half written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mbsearch.errors import StorageError


def write_whole(path: Path, text: str) -> Path:
    """Write a text file so that a reader, or a full disk, never sees half of it.

    Raises:
        StorageError: it cannot be written; the file that was there before is untouched.
    """
    temporary: str | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
    return path
