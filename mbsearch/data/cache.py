"""Cache of arrays and texts on disk; arrays are memory-mapped and shared by processes.

The folder is $MBSEARCH_CACHE, else $XDG_CACHE_HOME/mbsearch, else ~/.cache/mbsearch. A file's name
contains a hash of everything that its content depends on, so a file is never stale. It may be
deleted at any time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import disk_usage
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mbsearch.errors import DataError
from mbsearch.study.atomic_files import replacing

Array = NDArray[Any]

_OTHER_FOLDER = "the environment variable MBSEARCH_CACHE names another one"


def cache_dir() -> Path:
    """Return the cache folder, and create it if it is missing.

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
    """Return the memory-mapped cached array with a name; None if missing or damaged.

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
    """Return the cached array with a name, created from `rows` if it is missing.

    One process creates an array, others wait for it. The file is renamed when complete, so that a
    killed process leaves no partial array. It is written, not mapped: a full disk then raises an
    error instead of killing the process.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """
    found = cached_arrays({name: shape}, dtype, lambda _missing: ((row,) for row in rows))
    return found[name]


def cached_arrays(
    shapes: Mapping[str, tuple[int, ...]],
    dtype: type[np.generic],
    make: Callable[[list[str]], Iterable[Sequence[Array]]],
) -> dict[str, Array]:
    """Return cached arrays of equal length by name, and create the missing ones in one pass.

    Args:
        shapes: of each array, by its name.
        dtype: of all arrays.
        make: returns rows for the names of missing arrays; each row has one array for each name.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """
    found = {name: load_array(name, shape, dtype) for name, shape in shapes.items()}
    missing = sorted(name for name, array in found.items() if array is None)
    if missing:
        with ExitStack() as stack:
            for name in missing:  # sorted, so that processes do not wait for each other
                stack.enter_context(_locked(_path(name)))
            left = [name for name in missing if load_array(name, shapes[name], dtype) is None]
            if left:
                wanted = {_path(name): shapes[name] for name in left}
                _require_space(wanted, dtype)
                _write(wanted, dtype, make(left))
        found |= {name: load_array(name, shapes[name], dtype) for name in missing}
    arrays = {name: array for name, array in found.items() if array is not None}
    for name in shapes:
        if name not in arrays:
            raise _not_read_back(_path(name))
    return arrays


def cached_text(path: Path, make: Callable[[], str]) -> str:
    """Return the text of a file in the cache folder, created by `make` if it is missing.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """
    text = _read_text(path)
    if text is None:
        with _locked(path):
            text = _read_text(path)
            if text is None:
                with _writing(path) as file:
                    file.write(make().encode("utf-8", "surrogateescape"))
                text = _read_text(path)
    if text is None:
        raise _not_read_back(path)
    return text


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None


def _path(name: str) -> Path:
    return cache_dir() / f"{name}.npy"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock; raise an error if the cache is not writable."""
    try:
        # Without a fallback that would leave a lock behind a killed process.
        with FileLock(path.with_suffix(".lock"), fallback_to_soft=False):
            yield
    except OSError as error:
        raise _not_written(path, error) from error


@contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to `path` when it is complete."""
    with replacing(path, exclusive=True) as partial, partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write(
    shapes: Mapping[Path, tuple[int, ...]],
    dtype: type[np.generic],
    rows: Iterable[Sequence[Array]],
) -> None:
    with ExitStack() as stack:
        files = []
        for path, shape in shapes.items():
            file = stack.enter_context(_writing(path))
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            files.append(file)
        for row in rows:
            for file, part in zip(files, row, strict=True):
                file.write(np.ascontiguousarray(part, dtype).tobytes())


def _require_space(shapes: Mapping[Path, tuple[int, ...]], dtype: type[np.generic]) -> None:
    """Raise an error if arrays do not fit on the disk, before time is spent on their content."""
    needed = np.dtype(dtype).itemsize * sum(map(math.prod, shapes.values()))
    folder = cache_dir()
    free = disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: expected {needed / 2**20:,.1f} MiB of free disk space for the prepared "
            f"images, got {free / 2**20:,.1f} MiB; {_OTHER_FOLDER}"
        )


def _not_read_back(path: Path) -> DataError:
    return DataError(f"{path}: the image cache was written but does not read back")


def _not_written(path: Path, error: OSError | RuntimeError) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(
        f"{path}: cannot write the image cache ({reason}); expected a writable "
        f"folder with free space and file locks; {_OTHER_FOLDER}"
    )
