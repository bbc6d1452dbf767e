"""Paths for libraries that can open a file only if its path is valid UTF-8."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def path_in_utf8(folder: Path) -> Iterator[Path]:
    """Yield a folder's path, or a temporary link to the folder if the path is not UTF-8.

    safetensors and ONNX Runtime cannot open files in such a folder.
    """
    if _is_utf8(folder.absolute()):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mbsearch-") as made:
        link = Path(made) / "folder"
        link.symlink_to(folder.absolute())
        yield link


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
