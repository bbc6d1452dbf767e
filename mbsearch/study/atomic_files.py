"""Write files atomically, so that a crash or a full disk never leaves a partial file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mbsearch.errors import StorageError


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an error.

    Args:
        path: of the file. It is unchanged after an error.
        exclusive: the caller holds a lock on the file. The temporary path then has a fixed name, so
            that what a killed process left is overwritten; else it is unique.

    Raises:
        OSError: the folder cannot be written.
    """
    if exclusive:
        temporary = path.with_name(f".{path.name}.part")
    else:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, exclusive: bool = False) -> Path:
    """Write text as UTF-8, or bytes, and return the path.

    Args:
        path: of the file. Its folder is created if it is missing.
        content: of the file.
        exclusive: as in `replacing`.

    Raises:
        StorageError: it cannot be written. The previous file is unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, exclusive=exclusive) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
    return path
