"""Paths of folders for libraries that open files by names in UTF-8 only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def path_in_utf8(folder: Path) -> Iterator[Path]:
    """Yield the path of a folder, or that of a temporary link to it if its name is not UTF-8.

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
