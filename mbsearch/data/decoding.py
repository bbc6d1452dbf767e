"""Decode image files to 8 bits as image viewers do: upright, on white, rescaled if deeper."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

Depth = Literal["16-bit", "32-bit", "floating-point"]
"""Kinds of pixel values that have to be scaled to 8 bits."""

BYTES_PER_PIXEL = 16
"""Memory that decoding takes at most: the image, its conversions, its composite."""

_COEFFICIENT_BYTES = 6  # per pixel: two for each of three channels

Array = NDArray[np.generic]

_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_DECLARED: dict[Depth, tuple[tuple[float, float], ...]] = {
    "16-bit": ((0, 65535),),
    "32-bit": ((0, 255), (0, 65535)),
    "floating-point": ((0, 1), (0, 255), (0, 65535)),
}
_NOT_FINITE = "it holds NaN or infinity"
_STRIP = 1 << 20  # pixels converted at once: bounds the memory of the intermediate arrays

_TURNS = {  # EXIF 2.32, tag 0x0112
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_QUARTER_TURNS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)

# Pillow keeps the upper byte of 16-bit colours. Decoding the file again with the byte order swapped
# gives the lower one; of grey with alpha, four bytes a pixel are the two values.
_LOWER_BYTES = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "LA;16B": "RGBA",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
    "RGBA;16N": "RGBA;16B" if sys.byteorder == "little" else "RGBA;16L",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """Scaling of a data set's pixel values to 8 bits, for each depth.

    `ranges` maps a depth to the lowest and highest value of the data set, which become 0 and 255.
    A depth without a range has that of its type.
    """

    ranges: tuple[tuple[Depth, float, float], ...] = ()

    def range(self, depth: Depth) -> tuple[float, float]:
        """Return the pixel values, at a bit depth, that become 0 and 255."""
        for name, low, high in self.ranges:
            if name == depth:
                return low, high
        return _DECLARED[depth][0]


AS_DECLARED = Reading()
"""Every depth has the range of its type."""


def scaling_range(depth: Depth, low: float, high: float) -> tuple[float, float]:
    """Return the pixel values that become 0 and 255, given a data set's lowest and highest.

    The range of the type is used where the values lie inside it and fill half of it or more, so
    that 16-bit photographs keep the brightness that they have. Otherwise the range is that of the
    values.
    """
    for bottom, top in _DECLARED[depth]:
        if bottom <= low and high <= top and (2 * (high - low) >= top - bottom):
            return bottom, top
    if low < high:
        return low, high
    return next(
        (d for d in _DECLARED[depth] if d[0] <= low <= d[1]), (min(low, 0.0), max(high, 1.0))
    )


def is_grey(image: Image.Image) -> bool:
    """Return whether an image's mode has no colour."""
    return image.mode in _GREY


def depth_of(image: Image.Image) -> Depth | None:
    """Return the depth of an image that is not decoded yet; None for 8 bits or fewer."""
    if image.mode == "F":
        return "floating-point"
    if image.mode == "I":
        return "32-bit"
    if image.mode.startswith("I;16") or _rawmode(image) in _LOWER_BYTES:
        return "16-bit"
    return None


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height of an image as it is shown, before it is decoded."""
    width, height = image.size
    return (height, width) if _turn(image) in _QUARTER_TURNS else (width, height)


def plain(image: Image.Image, channels: int, reading: Reading) -> Image.Image:
    """Return an image upright, in 8 bits, grey or RGB, with transparency composited on white.

    Raises:
        Exception: the image is damaged; Pillow's decoders raise anything.
        ValueError: a floating-point image holds NaN or infinity.
    """
    source, depth = image, depth_of(image)  # before the pixels are loaded, which the EXIF may do
    if depth is not None:
        image = _in_eight_bits(image, *reading.range(depth))
    elif image.has_transparency_data:
        image = _on_white(image)
    turn = _turn(source)
    if turn is not None:
        image = image.transpose(turn)
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode:
        return image
    return image.convert(mode)


@dataclass(frozen=True, slots=True)
class DeepValues:
    """Range of pixel values in a deep image, and whether it is transparent or of one colour."""

    low: float
    high: float
    transparent: bool
    one_colour: bool


def decoding_bytes(image: Image.Image, stored: tuple[int, int]) -> int:
    """Return the most bytes needed to decode an image whose size in the file is `stored`.

    A progressive JPEG can be decoded at a reduced size, but all its coefficients are in memory.
    """
    needed = BYTES_PER_PIXEL * image.width * image.height
    if image.info.get("progressive"):
        needed += _COEFFICIENT_BYTES * stored[0] * stored[1]
    return needed


def deep_values(image: Image.Image) -> DeepValues:
    """Return the range of pixel values in a deep image that is not decoded yet.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    values, alpha = _values(image)
    flat = values.reshape(-1, 1 if values.ndim == 2 else values.shape[2])
    lows, highs = flat.min(axis=0), flat.max(axis=0)
    low, high = float(lows.min()), float(highs.max())
    if not np.isfinite((low, high)).all():  # min and max of values with NaN are NaN
        raise ValueError(_NOT_FINITE)
    transparent = alpha is not None and bool((alpha != 255).any())
    return DeepValues(low, high, transparent, not transparent and bool((lows == highs).all()))


def is_transparent(image: Image.Image) -> bool:
    """Return whether any pixel of an 8-bit image is not opaque."""
    if not image.has_transparency_data:
        return False
    if image.mode not in ("RGBA", "LA", "PA"):
        image = image.convert("RGBA")
    lowest, _ = cast(tuple[int, int], image.getchannel("A").getextrema())
    return lowest != 255


def is_one_colour(image: Image.Image) -> bool:
    """Return whether all pixels of an 8-bit image are equal."""
    extrema = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in cast(tuple[tuple[int, int], ...], bands))


@contextmanager
def local_files() -> Iterator[None]:
    """Remove Pillow's size limit and metadata warnings while the block runs.

    Pillow's limit on pixels protects servers from untrusted files. It is a setting of the process,
    so it is removed only while files of the user are read.
    """
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _rawmode(image: Image.Image) -> str | None:
    """Return Pillow's name for the pixel layout in a file; None for an image without a file."""
    tiles = getattr(image, "tile", None)
    if not tiles or not tiles[0][3]:
        return None
    args = tiles[0][3]
    return args if isinstance(args, str) else args[0] if isinstance(args[0], str) else None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition for the EXIF orientation, or None.

    Unreadable EXIF data is ignored. Pillow's ``exif_transpose`` rewrites the whole EXIF data and
    fails on malformed entries.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None
    return _TURNS.get(orientation or 1)


def _values(image: Image.Image) -> tuple[Array, Array | None]:
    """Return an image's colours at full depth, and its alpha in 8 bits or None.

    The image must not be decoded yet.
    """
    rawmode = _rawmode(image)
    if rawmode in _LOWER_BYTES:
        values = _sixteen_bits(image, rawmode)
        if values.shape[2] in (2, 4):
            alpha = (values[..., -1] >> 8).astype(np.uint8)
            return values[..., 0] if values.shape[2] == 2 else values[..., :3], alpha
    else:
        values = np.asarray(image)
        if image.mode == "I" and rawmode == "I;32N":  # unsigned, which Pillow has no mode for
            values = values.view(np.uint32)
    if "transparency" not in image.info:
        return values, None
    clear = values == np.asarray(image.info["transparency"])
    return values, np.where(clear.all(axis=2) if clear.ndim == 3 else clear, 0, 255).astype(
        np.uint8
    )


def _sixteen_bits(image: Image.Image, rawmode: str) -> NDArray[np.uint16]:
    """Return all channels (H, W, C) of a 16-bit image that Pillow would reduce to 8 bits."""
    with Image.open(image.filename) as again:  # type: ignore[attr-defined]
        again.tile = [_swapped(tile) for tile in again.tile]
        lower = np.asarray(again)
    if rawmode == "LA;16B":
        return np.ascontiguousarray(lower).view(">u2").astype(np.uint16)
    wide = np.asarray(image).astype(np.uint16)
    wide <<= 8
    wide |= lower
    return wide


def _swapped(tile: ImageFile._Tile) -> ImageFile._Tile:
    """Return a 16-bit image's tile, changed so that Pillow decodes the lower bytes."""
    if isinstance(tile.args, str):
        return tile._replace(args=_LOWER_BYTES[tile.args])
    rawmode, *others = cast(tuple[str, ...], tile.args)
    return tile._replace(args=(_LOWER_BYTES[rawmode], *others))


def _in_eight_bits(image: Image.Image, low: float, high: float) -> Image.Image:
    """Return a deep image in 8 bits, scaled from `low` to `high` and composited on white."""
    values, alpha = _values(image)
    scaled = np.empty(values.shape, np.uint8)
    step = max(1, _STRIP // values.shape[1])
    for top in range(0, len(values), step):
        part = values[top : top + step].astype(np.float64)
        if not np.isfinite(part).all():
            raise ValueError(_NOT_FINITE)
        part = (part - low) * (255 / (high - low))
        scaled[top : top + step] = part.round().clip(0, 255)
    if alpha is not None:
        shown = alpha if scaled.ndim == 2 else alpha[..., None]
        inverse = 255 - shown.astype(np.uint16)
        scaled = ((scaled * shown.astype(np.uint16) + 255 * inverse + 127) // 255).astype(np.uint8)
    return Image.fromarray(scaled)


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image composited on white, in RGB, or in grey if it has no colour."""
    grey = image.mode in _GREY
    shown = Image.new("L" if grey else "RGB", image.size)
    step = max(1, _STRIP // image.width)
    for top in range(0, image.height, step):
        box = (0, top, image.width, min(top + step, image.height))
        part = image.crop(box) if step < image.height else image
        part.info = image.info
        part = part.convert("RGBA")
        white = Image.new("RGBA", part.size, (255, 255, 255, 255))
        white.alpha_composite(part)
        shown.paste(white.convert(shown.mode), box)
    return shown
