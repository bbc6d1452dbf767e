"""Files kept outside studies: image arrays, images of parquet files, downloads, compiled kernels.

All of them are made again when they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mbsearch.data.cache import cache_dir
from mbsearch.data.parquet_images import FOLDER
from mbsearch.errors import StorageError

_ARRAYS = ("*.npy", "*.lock", ".*.part", "inspection-*.json", "damaged-*.txt")
_KERNELS = ("*.nbi", "*.nbc", "compiled-*")


@dataclass(frozen=True, slots=True)
class CachedFiles:
    """Cached files of one kind."""

    kind: str
    folder: Path
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Total size of the files in bytes."""
        return sum(path.stat().st_size for path in self.files if path.exists())

    def clear(self) -> None:
        """Delete the files.

        Raises:
            StorageError: a file cannot be deleted.
        """
        _delete(self.files)


def cached_files(kernels: Path | None) -> list[CachedFiles]:
    """Return the cached files, one group for each kind.

    Args:
        kernels: folder of compiled kernels; None if there is none.

    Raises:
        DataError: the cache folder cannot be made.
    """
    folder = cache_dir()
    downloads = folder / "datasets"
    found = [
        CachedFiles("image arrays", folder, _matching(folder, _ARRAYS)),
        CachedFiles("downloaded data sets", downloads, _below(downloads)),
        CachedFiles("images of parquet files", folder / FOLDER, _below(folder / FOLDER)),
    ]
    if kernels is not None:
        found.append(CachedFiles("compiled kernels", kernels, _matching(kernels, _KERNELS)))
    return found


def shrink_arrays(limit: int) -> int:
    """Delete the least recently used image arrays until the rest is within `limit` bytes.

    Returns:
        the number of deleted arrays.

    Raises:
        DataError: the cache folder cannot be made.
        StorageError: an array cannot be deleted.
    """
    arrays = sorted(cache_dir().glob("*.npy"), key=_last_use, reverse=True)
    size, deleted = 0, []
    for path in arrays:
        size += path.stat().st_size
        if size > limit:
            deleted.append(path)
    _delete(deleted)
    return len(deleted)


def _matching(folder: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for pattern in patterns for path in sorted(folder.glob(pattern)))


def _below(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in sorted(folder.rglob("*")) if path.is_file())


def _last_use(path: Path) -> float:
    """Return the time of a file's last access or change, as far as it is recorded."""
    facts = path.stat()
    return max(facts.st_atime, facts.st_mtime)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path}: cannot be deleted: {error.strerror}") from None
