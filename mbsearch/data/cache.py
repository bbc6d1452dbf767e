"""Arrays made once and kept on disk: every process maps the same file.

The folder is $MBSEARCH_CACHE, else $XDG_CACHE_HOME/mbsearch, else ~/.cache/mbsearch. A file's name
contains a hash of everything its content depends on, so a file is right or absent, never stale; it
may be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mbsearch.errors import DataError

Array = NDArray[Any]


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
    found = cached_arrays({name: shape}, dtype, lambda _missing: ((row,) for row in rows))
    return found[name]


def cached_arrays(
    shapes: Mapping[str, tuple[int, ...]],
    dtype: type[np.generic],
    make: Callable[[list[str]], Iterable[Sequence[Array]]],
) -> dict[str, Array]:
    """The cached arrays of these names, all of equal length; made together where they are missing.

    Args:
        shapes: of each array, by its name.
        dtype: of all.
        make: given the names that are missing, the rows of all of them, side by side.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """
    found = {name: load_array(name, shape, dtype) for name, shape in shapes.items()}
    missing = sorted(name for name, array in found.items() if array is None)
    if missing:
        with ExitStack() as stack:
            for name in missing:  # in one order, so that processes do not wait for each other
                stack.enter_context(_locked(_path(name)))
            left = [name for name in missing if load_array(name, shapes[name], dtype) is None]
            if left:
                _write({_path(name): shapes[name] for name in left}, dtype, make(left))
        found |= {name: load_array(name, shapes[name], dtype) for name in missing}
    arrays = {name: array for name, array in found.items() if array is not None}
    for name in shapes:
        if name not in arrays:
            raise _not_read_back(_path(name))
    return arrays


def cached_text(path: Path, make: Callable[[], str]) -> str:
    """The text of a file of the cache folder; made where it is missing.

    Raises:
        DataError: the folder is not writable or the disk is full.
    """
    text = _read_text(path)
    if text is None:
        with _locked(path):
            text = _read_text(path)
            if text is None:
                with _written_whole(path) as file:
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
    """Hold the lock of a file; an OSError within means that the cache is not writable."""
    try:
        with FileLock(path.with_suffix(".lock")):
            yield
    except OSError as error:
        raise _not_written(path, error) from error


@contextmanager
def _written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when it is complete."""
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(
    shapes: Mapping[Path, tuple[int, ...]],
    dtype: type[np.generic],
    rows: Iterable[Sequence[Array]],
) -> None:
    with ExitStack() as stack:
        files = []
        for path, shape in shapes.items():
            file = stack.enter_context(_written_whole(path))
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            files.append(file)
        for row in rows:
            for file, part in zip(files, row, strict=True):
                file.write(np.ascontiguousarray(part, dtype).tobytes())


def _not_read_back(path: Path) -> DataError:
    return DataError(f"{path}: the image cache was written but does not read back")


def _not_written(path: Path, error: OSError | RuntimeError) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(
        f"{path}: cannot write the image cache ({reason}); expected a writable "
        "folder with free space; the environment variable MBSEARCH_CACHE names another one"
    )
