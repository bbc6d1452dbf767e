"""Write files atomically, so that a crash or a full disk never leaves a partial file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbsearch.errors import StorageError


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an error.

    The file gets the permissions of the user's umask. A link at `path` is replaced, not followed.

    Args:
        path: of the file. It is unchanged after an error.
        exclusive: the caller holds a lock on the file. The temporary path then has a fixed name, so
            that what a killed process left is overwritten; else it is unique.

    Raises:
        OSError: the folder cannot be written.
    """
    if exclusive:
        temporary = path.with_name(f".{path.name}.part")
        temporary.unlink(missing_ok=True)
    else:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def deferring(failures: list[StorageError]) -> Iterator[None]:
    """Append a `StorageError` of the block to a list instead of raising it."""
    try:
        yield
    except StorageError as error:
        failures.append(error)


def write_atomically(path: Path, content: str | bytes, *, exclusive: bool = False) -> Path:
    """Write bytes, or text as UTF-8, and return the path.

    Names of files that are not UTF-8 are written with the bytes that they have.

    Args:
        path: of the file. Its folder is created if it is missing.
        content: of the file.
        exclusive: as in `replacing`.

    Raises:
        StorageError: it cannot be written. The previous file is unchanged.
    """
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, exclusive=exclusive) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
    return path
