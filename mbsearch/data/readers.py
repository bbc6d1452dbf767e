"""Readers of single images: the embedded file, files on disk, torchvision data sets."""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mbsearch.data.splits import Rows
from mbsearch.errors import DataError

Pixels = NDArray[np.uint8]

_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"}


class Pool(Protocol):
    """A set of labelled images; each is opened on demand."""

    @property
    def labels(self) -> Rows:
        """Class of each image."""

    def open(self, row: int) -> Image.Image:
        """Open one image; raises Pillow's errors."""

    def where(self, row: int) -> str:
        """Return a description of the image for messages."""


@dataclass(frozen=True)
class PackedPool:
    """Grey squares of one size in an xz file, in the order of their labels."""

    path: Path
    first: int
    side: int
    labels: Rows

    @cached_property
    def _images(self) -> Pixels:
        pixels = np.frombuffer(lzma.decompress(self.path.read_bytes()), np.uint8)
        return pixels.reshape(-1, self.side, self.side)[self.first :]

    def open(self, row: int) -> Image.Image:
        """Return the image of one row."""
        return Image.fromarray(self._images[row])

    def where(self, row: int) -> str:
        """Return the position in the packed file."""
        return f"{self.path}: image {self.first + row}"


@dataclass(frozen=True)
class FilePool:
    """One image file per row."""

    paths: tuple[Path, ...]
    labels: Rows

    def open(self, row: int) -> Image.Image:
        """Open the file of one row without reading its pixels."""
        return Image.open(self.paths[row])

    def where(self, row: int) -> str:
        """Return the path of the file."""
        return str(self.paths[row])


@dataclass(frozen=True)
class TorchvisionPool:
    """An official part of a torchvision data set."""

    name: str
    dataset: Sequence[tuple[Image.Image, Any]]
    labels: Rows

    def open(self, row: int) -> Image.Image:
        """Return the image of one row."""
        return self.dataset[row][0]

    def where(self, row: int) -> str:
        """Return the position in the data set."""
        return f"data set {self.name}: image {row}"


def channels(pool: Pool, rows: Rows) -> int:
    """Return 1 if all these images are grey, else 3; reads only headers of files."""
    for row in rows.tolist():
        with _open(pool, row) as image:
            if image.mode not in _GREY:
                return 3
    return 1


def shorter_sides(pool: Pool, rows: Rows) -> list[int]:
    """Return the shorter side of each image in pixels; reads only headers of files."""
    found = []
    for row in rows.tolist():
        with _open(pool, row) as image:
            found.append(min(image.size))
    return found


def squares(pool: Pool, rows: Rows, pixels: int, channels: int) -> Iterator[Pixels]:
    """Decode images and resize each to a square, as uint8 (channels, pixels, pixels).

    The whole image is resized to the square without cropping, so every resolution has the same
    content. The filter is bilinear with antialiasing, as in the training of the references; without
    antialiasing small images are noisy.

    Raises:
        DataError: an image cannot be read; the message names it.
    """
    for row in rows.tolist():
        try:
            with _open(pool, row) as image:
                # JPEG only: decode at a reduced size, at least twice the final one.
                image.draft(None, (2 * pixels, 2 * pixels))
                square = _plain(image, channels).resize((pixels, pixels), Image.Resampling.BILINEAR)
        except (MemoryError, DataError):
            raise
        except Exception as error:  # Pillow's decoders raise any error for damaged files
            raise _unreadable(pool, row, error) from error
        yield np.atleast_3d(np.asarray(square)).transpose(2, 0, 1)


_TURNS = {  # EXIF 2.32, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Opening a file, Pillow raises SyntaxError for some damaged ones.
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def _open(pool: Pool, row: int) -> Image.Image:
    try:
        return pool.open(row)
    except _UNREADABLE as error:
        raise _unreadable(pool, row, error) from error


def _upright(image: Image.Image) -> Image.Image:
    """The image rotated by its EXIF orientation; unreadable EXIF data is ignored.

    Pillow's ``exif_transpose`` rewrites the whole EXIF data and fails on malformed entries.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image
    turn = _TURNS.get(orientation or 1)
    return image if turn is None else image.transpose(turn)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """The image upright, in 8 bits, grey or RGB; transparency is dropped, as torchvision does."""
    image = _upright(image)
    if image.mode == "F":
        raise ValueError("expected pixels of 8 or 16 bits, got floating-point ones")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((wide / 257).round().astype(np.uint8))
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def _unreadable(pool: Pool, row: int, error: BaseException) -> DataError:
    return DataError(
        f"{pool.where(row)}: expected an image, got a file that cannot be read ({error})"
    )
