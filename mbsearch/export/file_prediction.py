"""Predict the classes of image files with an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mbsearch.data.decoding import depth_of
from mbsearch.data.folder_notes import left_out_notes
from mbsearch.data.image_files import DamagedFile
from mbsearch.data.inspection import image_extensions
from mbsearch.data.listing import NOT_IMAGE, Listing, list_files
from mbsearch.data.readers import FilePool
from mbsearch.errors import DataError
from mbsearch.export.exported_file import ExportedFile
from mbsearch.training.devices import torch_threads

_FIRST = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class ClassProbability:
    """A class and its predicted probability. Unknown names are numbers."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """The most probable classes of an image, by decreasing probability."""

    path: str
    classes: tuple[ClassProbability, ...]


@dataclass(slots=True)
class FilePredictions:
    """Predictions of image files, the files that cannot be read, and notes on all of them."""

    images: list[ImagePrediction] = field(default_factory=list)
    unreadable: list[DamagedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def predict(file: ExportedFile, paths: Sequence[Path], top: int) -> FilePredictions:
    """Predict the `top` most probable classes of images, and of all images in folders.

    Files in folders that are neither images nor named like one are counted in the notes.

    Raises:
        DataError: a path does not exist.
        ExportError: the outputs of the file do not match its class names.
    """
    found, deep, left_out = FilePredictions(), 0, Listing()
    with torch_threads(1):
        for path, is_given in _files(paths, found, left_out):
            pool = FilePool((path,), _FIRST, np.zeros(1, np.bool_))
            try:
                (pixels,) = file.preprocessing.read_images(pool, _FIRST)
                with pool.open(0) as image:
                    deep += depth_of(image) is not None
            except (DataError, MemoryError) as error:
                if is_given or path.suffix.lower() in image_extensions():
                    found.unreadable.append(DamagedFile(path, _fault(error)))
                else:
                    left_out.leave_out(path.parent.resolve().name, NOT_IMAGE)
                continue
            found.images.append(_prediction(file, path, pixels, top))
    found.notes += left_out_notes(left_out.left_out)
    if deep:
        found.notes.append(
            f"images of more than 8 bits, scaled to 8 by the range of their type: {deep:,}"
        )
    return found


def _files(
    paths: Sequence[Path], found: FilePredictions, left_out: Listing
) -> list[tuple[Path, bool]]:
    """Return image files, and whether each was given itself rather than its folder."""
    files = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: expected an image or a folder of images, got no such file")
        if not path.is_dir():
            files.append((path, True))
            continue
        listing = list_files({("", path.resolve().name): path}, image_extensions())
        files += [(each.path, False) for each in listing.files]
        found.unreadable += [DamagedFile(e.path, "the link has no target") for e in listing.broken]
        for name, counts in listing.left_out.items():
            for reason, count in counts.items():
                left_out.leave_out(name, reason, count)
    return files


def _fault(error: BaseException) -> str:
    cause = error.__cause__ or error
    return " ".join((str(cause) or type(cause).__name__).split())


def _prediction(file: ExportedFile, path: Path, pixels: np.ndarray, top: int) -> ImagePrediction:
    (probabilities,) = file.probabilities(pixels[None])
    names = file.class_names or tuple(str(i) for i in range(len(probabilities)))
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    return ImagePrediction(
        str(path), tuple(ClassProbability(names[i], float(probabilities[i])) for i in order)
    )
