"""Arrays cached on disk; every process maps the same file.

The folder is $MBSEARCH_CACHE, else $XDG_CACHE_HOME/mbsearch, else ~/.cache/mbsearch. A file's name
contains a hash of everything that its content depends on, so a file is never stale. It may be
deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mbsearch.errors import DataError
from mbsearch.study.atomic_files import replacing

Array = NDArray[Any]


def cache_dir() -> Path:
    """Return the cache folder; it is created if missing.

    Raises:
        DataError: it cannot be created.
    """
    general = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = Path(os.environ.get("MBSEARCH_CACHE") or general / "mbsearch")
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
        raise _not_written(folder, error) from error
    return folder


def load_array(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array | None:
    """Return the cached array of a name, memory-mapped; None if missing or damaged.

    The mapping is copy-on-write: torch warns about read-only memory, and an accidental write stays
    in its process. Unmodified pages are shared.
    """
    try:
        array: Array = np.load(_path(name), mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == dtype else None


def cached_array(
    name: str, shape: tuple[int, ...], dtype: type[np.generic], rows: Iterable[Array]
) -> Array:
    """Return the cached array of a name; created from `rows` (shape[0] arrays) if missing.

    One process creates an array, others wait for it. The file is renamed when complete, so that a
    killed process leaves no partial array. It is written, not mapped: a full disk then raises an
    error instead of killing the process.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """
    found = load_array(name, shape, dtype)
    if found is not None:
        return found
    path = _path(name)
    try:
        with FileLock(path.with_suffix(".lock")):
            found = load_array(name, shape, dtype)
            if found is None:
                with replacing(path, exclusive=True) as partial:
                    _write(partial, shape, dtype, rows)
                found = load_array(name, shape, dtype)
    except OSError as error:
        raise _not_written(path, error) from error
    if found is None:
        raise DataError(f"{path}: the image cache was written but does not read back")
    return found


def _path(name: str) -> Path:
    return cache_dir() / f"{name}.npy"


def _write(
    path: Path, shape: tuple[int, ...], dtype: type[np.generic], rows: Iterable[Array]
) -> None:
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for row in rows:
            file.write(np.ascontiguousarray(row, dtype).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _not_written(path: Path, error: OSError | RuntimeError) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(
        f"{path}: cannot write the image cache ({reason}); expected a writable "
        "folder with free space; the environment variable MBSEARCH_CACHE names another one"
    )
