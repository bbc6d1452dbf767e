"""Read every image file once, to find damaged, deep, transparent or equal images.

The result is kept in the cache under a hash of the files' names, sizes and times.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache, partial
from pathlib import Path

import PIL
from PIL import Image, UnidentifiedImageError, features

from mbsearch.data.cache import cache_dir, cached_text
from mbsearch.data.decoding import (
    AS_DECLARED,
    Depth,
    decoding_bytes,
    deep_values,
    depth_of,
    is_grey,
    is_one_colour,
    is_transparent,
    local_files,
    plain,
)
from mbsearch.data.listing import NOT_IMAGE, ListedFile
from mbsearch.data.parallel import (
    MEMORY,
    MemoryBound,
    map_in_threads,
    reported,
)
from mbsearch.progress import OnProgress

_VERSION = "1"  # part of the cache's key: raise it when the same files give another report
_LOOKED_AT = 256  # pixels of a side: a JPEG that seems of one colour is decoded at this size

# EPS runs another program, Ghostscript. Pillow identifies the others, but decodes them only where
# a program has registered a decoder.
_NOT_DECODED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
_ONE_PICTURE = frozenset({"MPO", "PSD", "ICO", "ICNS", "CUR"})  # whose "frames" are no animation
_CHUNK = 4


@dataclass(frozen=True, slots=True)
class FileReport:
    """Result of reading one file.

    `fault` is the reason why it cannot be used, and is empty for an image. `is_image` is False if
    the file also has no extension of an image. `digest` is a hash of its content. `low` and `high`
    are the least and greatest pixel value of a deep image.
    """

    digest: str = ""
    fault: str = ""
    is_image: bool = True
    width: int = 0
    height: int = 0
    grey: bool = False
    animated: bool = False
    transparent: bool = False
    one_colour: bool = False
    depth: Depth | None = None
    low: float = 0.0
    high: float = 0.0
    seconds: float = 0.0


Inspected = tuple[ListedFile, FileReport]
"""A file and the result of reading it."""


@cache
def image_extensions() -> frozenset[str]:
    """Return the lower-case extensions of all formats that Pillow opens."""
    Image.init()
    return frozenset(
        extension for extension, name in Image.registered_extensions().items() if name in Image.OPEN
    )


def inspect_files(
    root: Path, files: Sequence[ListedFile], on_progress: OnProgress | None = None
) -> list[FileReport]:
    """Return a report for each file, read in parallel or from an earlier inspection.

    Raises:
        DataError: the cache is not writable.
    """

    def write() -> str:
        with local_files():
            memory = MemoryBound(MEMORY)
            reports = map_in_threads(
                partial(_inspect, memory=memory), (file.path for file in files), _CHUNK
            )
            shown = reported(reports, "checking images", len(files), on_progress)
            return json.dumps([astuple(report) for report in shown])

    text = cached_text(cache_dir() / f"inspection-{_key(root, files)}.json", write)
    return [FileReport(*row) for row in json.loads(text)]


def _key(root: Path, files: Sequence[ListedFile]) -> str:
    libraries = [f"{name} {features.version(name)}" for name in features.get_supported()]
    digest = hashlib.sha256(f"{_VERSION}\0{PIL.__version__}\0{libraries}\n".encode())
    for file in files:
        line = f"{file.path.relative_to(root)}\0{file.size}\0{file.mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:24]


def _inspect(path: Path, memory: MemoryBound) -> FileReport:
    named = path.suffix.lower() in image_extensions()
    digest = ""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _read(path, digest, memory)
    except UnidentifiedImageError:
        name = Image.registered_extensions().get(path.suffix.lower())
        if name in _NOT_DECODED:
            return FileReport(digest, f"{name}, which Pillow does not decode", is_image=False)
        fault = "no image format that Pillow opens" if path.stat().st_size else "it is empty"
    except MemoryError:
        fault = "not enough memory to decode it"
    except Exception as error:  # Pillow's decoders raise any error for damaged files
        fault = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return FileReport(digest, " ".join(fault.split()) if named else NOT_IMAGE, is_image=named)


def formats_of(path: Path) -> tuple[str, ...]:
    """Return the names of Pillow's formats to try for a file."""
    image_extensions()
    named = Image.registered_extensions().get(path.suffix.lower())
    return tuple(
        name
        for name, (_, accept) in Image.OPEN.items()
        if name not in _NOT_DECODED and (accept is not None or name in (named, "SPIDER"))
    )


def _read(path: Path, digest: str, memory: MemoryBound) -> FileReport:
    started = time.monotonic()
    with Image.open(path, formats=formats_of(path)) as image:
        width, height = image.size
        grey, depth = is_grey(image), depth_of(image)
        animated = _is_animated(image)
        image.draft(None, (1, 1))  # JPEG only: all of the file is read, an eighth of it decoded
        reduced = image.size != (width, height)
        with memory.hold(decoding_bytes(image, (width, height))):
            found = deep_values(image) if depth is not None else None
            if found is None:
                image.load()
                transparent = is_transparent(image)
                one_colour = is_one_colour(plain(image, 3, AS_DECLARED) if transparent else image)
            else:
                transparent, one_colour = found.transparent, found.one_colour
    return FileReport(
        digest=digest,
        width=width,
        height=height,
        grey=grey,
        animated=animated,
        transparent=transparent,
        one_colour=one_colour and (not reduced or _is_one_colour_whole(path)),
        depth=depth,
        low=0.0 if found is None else found.low,
        high=0.0 if found is None else found.high,
        seconds=round(time.monotonic() - started, 3),
    )


def _is_one_colour_whole(path: Path) -> bool:
    with Image.open(path) as image:
        image.draft(None, (_LOOKED_AT, _LOOKED_AT))
        return is_one_colour(image)


def _is_animated(image: Image.Image) -> bool:
    """Return whether a file has several frames or pages; False if they are damaged."""
    try:
        return image.format not in _ONE_PICTURE and getattr(image, "is_animated", False)
    except Exception:
        return False
