"""Arrays made once and kept on disk: every process maps the same file.

The folder is $MBSEARCH_CACHE, else $XDG_CACHE_HOME/mbsearch, else ~/.cache/mbsearch. A file's name
contains a hash of everything its content depends on, so a file is right or absent, never stale; it
may be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mbsearch.errors import DataError

Array = NDArray[Any]
T = TypeVar("T")


def cache_dir() -> Path:
    """The cache folder, made where it was missing.

    Raises:
        DataError: it cannot be made.
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
    """The cached array of this name, mapped; None where it is missing, damaged or cut short.

    The mapping is copy-on-write: torch warns about read-only memory, and this way a mistaken write
    stays in its own process. Pages that nobody writes are shared all the same.
    """
    try:
        array: Array = np.load(_path(name), mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == dtype else None


def cached_array(
    name: str, shape: tuple[int, ...], dtype: type[np.generic], rows: Iterable[Array]
) -> Array:
    """The cached array of this name; made from `rows` (shape[0] arrays) where it is missing.

    Processes that want the same array at once wait for the one that makes it. It is written under
    another name and renamed when complete, so that a killed process leaves nothing half made; and
    written, not mapped, because a full disk then raises an error instead of killing the process.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """

    def load() -> Array | None:
        return load_array(name, shape, dtype)

    return _made_once(_path(name), load, lambda partial: _write(partial, shape, dtype, rows))


def cached_text(path: Path, make: Callable[[], str]) -> str:
    """The text of a file of the cache folder; made where it is missing.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """

    def load() -> str | None:
        try:
            return path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())

    return _made_once(path, load, write)


def _made_once(path: Path, load: Callable[[], T | None], write: Callable[[Path], None]) -> T:
    """What `load` finds, written where it is missing; other processes wait meanwhile."""
    found = load()
    if found is not None:
        return found
    partial = path.with_suffix(".partial")
    try:
        with FileLock(path.with_suffix(".lock")):
            found = load()
            if found is None:
                try:
                    write(partial)
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
                found = load()
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
