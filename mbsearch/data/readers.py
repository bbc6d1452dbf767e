"""Readers for single images: in the embedded file, in files, in torchvision data sets."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mbsearch.data.decoding import (
    AS_DECLARED,
    Reading,
    decoding_bytes,
    is_grey,
    local_files,
    plain,
    upright_size,
)
from mbsearch.data.inspection import formats_of
from mbsearch.data.parallel import MEMORY, MemoryBound, map_in_threads
from mbsearch.data.splits import Rows
from mbsearch.errors import DataError
from mbsearch.space.image_format import ImageFormat

Pixels = NDArray[np.uint8]

PADDING = 128
"""Value of the pixels around an image that does not fill its format."""

_CHUNK = 8  # images to a task of a thread


class Pool(Protocol):
    """A set of labelled images, which are opened on demand."""

    @property
    def labels(self) -> Rows:
        """Class index of each image."""

    @property
    def reading(self) -> Reading:
        """Scaling of pixel values to 8 bits."""

    def open(self, row: int) -> Image.Image:
        """Open an image without decoding it; Pillow's errors are not caught."""

    def where(self, row: int) -> str:
        """Return text that identifies an image in messages."""


@dataclass(frozen=True)
class PackedPool:
    """Grey square images in one xz file, sorted by label."""

    path: Path
    first: int
    side: int
    labels: Rows
    reading: Reading = AS_DECLARED

    @cached_property
    def _images(self) -> Pixels:
        pixels = np.frombuffer(lzma.decompress(self.path.read_bytes()), np.uint8)
        return pixels.reshape(-1, self.side, self.side)[self.first :]

    def open(self, row: int) -> Image.Image:
        """Return the image at index `row`."""
        return Image.fromarray(self._images[row])

    def where(self, row: int) -> str:
        """Return the image's position in the packed file."""
        return f"{self.path}: image {self.first + row}"


@dataclass(frozen=True)
class FilePool:
    """Images stored in one file each."""

    paths: tuple[Path, ...]
    labels: Rows
    grey: NDArray[np.bool_]
    reading: Reading = AS_DECLARED

    def open(self, row: int) -> Image.Image:
        """Open the file at index `row` without decoding its pixels."""
        path = self.paths[row]
        return Image.open(path, formats=formats_of(path))

    def where(self, row: int) -> str:
        """Return the path of the file at index `row`."""
        return str(self.paths[row])


@dataclass(frozen=True)
class TorchvisionPool:
    """One official part of a torchvision data set."""

    name: str
    dataset: Sequence[tuple[Image.Image, Any]]
    labels: Rows
    reading: Reading = AS_DECLARED

    def open(self, row: int) -> Image.Image:
        """Return the image at index `row`."""
        return self.dataset[row][0]

    def where(self, row: int) -> str:
        """Return the image's position in the data set."""
        return f"data set {self.name}: image {row}"


def channels(pool: Pool, rows: Rows) -> int:
    """Return 1 if all chosen images are grey, otherwise 3, without decoding them."""
    if isinstance(pool, FilePool):
        return 1 if pool.grey[rows].all() else 3
    for row in rows.tolist():
        with _open(pool, row) as image:
            if not is_grey(image):
                return 3
    return 1


def shorter_sides(pool: Pool, rows: Rows) -> list[int]:
    """Return the shorter side of each image in pixels, read from the files' headers."""
    found = []
    for row in rows.tolist():
        with local_files(), _open(pool, row) as image:
            found.append(min(image.size))
    return found


def resized(
    pool: Pool, rows: Rows, formats: Sequence[ImageFormat], channels: int
) -> Iterator[tuple[Pixels, ...]]:
    """Yield each image resized to several formats, uint8 (channels, height, width).

    How an image of another aspect ratio fits is part of the format. The filter is bilinear with
    antialiasing, as in the training of the references; without antialiasing small images are noisy.

    An image is decoded once for all formats, a JPEG once for each fraction of its size. The threads
    that decode share `MEMORY` bytes.

    Raises:
        DataError: an image cannot be read; the message names it.
    """
    memory = MemoryBound(MEMORY)

    def converted(row: int) -> tuple[Pixels, ...]:
        found: dict[ImageFormat, Pixels] = {}
        try:
            while len(found) < len(formats):
                with _open(pool, row) as image:
                    reductions = {f: _reduction(image, f) for f in formats if f not in found}
                    first, *_ = reductions.values()
                    stored = image.size
                    if first > 1:
                        image.draft(None, (stored[0] // first, stored[1] // first))
                    with memory.hold(decoding_bytes(image, stored)):
                        shown = plain(image, channels, pool.reading)
                        found |= {f: _fitted(shown, f) for f, r in reductions.items() if r == first}
        except (MemoryError, DataError):
            raise
        except Exception as error:  # Pillow's decoders raise any error for damaged files
            raise _unreadable(pool, row, error) from error
        return tuple(found[each] for each in formats)

    with local_files():
        if len(rows):
            _open(pool, int(rows[0])).close()  # packed images are unpacked once, before the threads
        yield from map_in_threads(converted, rows.tolist(), _CHUNK)


def _reduction(image: Image.Image, target: ImageFormat) -> int:
    """Return the factor by which Pillow shrinks a JPEG while decoding; 1 for other formats.

    The decoded image has at least twice the final size.
    """
    if image.format not in ("JPEG", "MPO"):
        return 1
    width, height = upright_size(image)
    most = min(width // (2 * target.size.width), height // (2 * target.size.height))
    return next((scale for scale in (8, 4, 2) if most >= scale), 1)


def _fitted(image: Image.Image, target: ImageFormat) -> Pixels:
    """Return a decoded image at a size, fitted as the format describes."""
    size, bilinear = (target.size.width, target.size.height), Image.Resampling.BILINEAR
    match target.fit:
        case "stretch":
            fitted = image.resize(size, bilinear)
        case "crop":
            fitted = ImageOps.fit(image, size, bilinear)
        case "pad":
            fitted = ImageOps.pad(image, size, bilinear, (PADDING,) * len(image.getbands()))
    return np.atleast_3d(np.asarray(fitted)).transpose(2, 0, 1)


# Opening a file, Pillow raises SyntaxError for some damaged ones.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def _open(pool: Pool, row: int) -> Image.Image:
    try:
        return pool.open(row)
    except _UNREADABLE as error:
        raise _unreadable(pool, row, error) from error


def _unreadable(pool: Pool, row: int, error: BaseException) -> DataError:
    return DataError(
        f"{pool.where(row)}: expected an image, got a file that cannot be read ({error})"
    )
