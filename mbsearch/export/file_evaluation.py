"""Evaluate an exported file on a labelled data set: accuracy, recall per class, time an image."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mbsearch.analysis.class_errors import ClassErrors, ClassRecall
from mbsearch.data.parallel import reported
from mbsearch.data.readers import Pixels
from mbsearch.data.sources import ImageSource, Members, SplitName
from mbsearch.errors import DataError, ExportError
from mbsearch.export.exported_file import ExportedFile
from mbsearch.progress import OnProgress
from mbsearch.study.noise import interval
from mbsearch.study.records import Predictions
from mbsearch.training.devices import torch_threads

EvaluatedSplit = Literal["test", "validation", "train", "all"]
"""Images that a file is evaluated on; all are those of the three splits."""

_BATCH = 64
_TIMED = 50  # images
_LISTED = 5  # classes in a message


@dataclass(frozen=True, slots=True)
class FileEvaluation:
    """Accuracy of an exported file on a split, with its 95 % interval over images.

    `largest_class` is the share of the split's largest class, the accuracy of always predicting it.
    `recalls` are sorted, the lowest first. `median_seconds` is the time of the network for one
    image, without decoding and resizing, on one thread.
    """

    file: str
    engine: str
    split: EvaluatedSplit
    images: int
    accuracy: float
    low: float
    high: float
    largest_class: float
    median_seconds: float
    recalls: tuple[ClassRecall, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain data, leaving out the recalls of a reference."""
        recalls = [asdict(each) for each in self.recalls]
        return asdict(self) | {
            "recalls": [{k: v for k, v in row.items() if k != "reference"} for row in recalls]
        }


def evaluate(
    file: ExportedFile,
    source: ImageSource,
    split: EvaluatedSplit = "test",
    on_progress: OnProgress | None = None,
) -> FileEvaluation:
    """Evaluate a file on a split of a data set with the same classes, in any order.

    Raises:
        ExportError: the class names of the file are unknown, or others than the data set's.
        DataError: an image cannot be read, or the split is empty.
    """
    order = _class_order(file, source)
    parts = _members(source, split)
    labels = np.concatenate([order[part.labels] for part in parts])
    if not len(labels):
        raise DataError(f"{source.name}: expected {split} images, got none")
    images = reported(_images(file, parts), "evaluating images", len(labels), on_progress)
    with torch_threads(1):
        predicted, seconds = _run(file, images)
    found = Predictions(labels.astype(np.uint16), predicted.astype(np.uint16))
    accuracy = float(found.correct.mean())
    return FileEvaluation(
        str(file.path),
        file.engine,
        split,
        len(labels),
        accuracy,
        *interval(accuracy, len(labels), 0.0),
        float(np.bincount(labels).max() / len(labels)),
        seconds,
        tuple(ClassErrors.of([found], names=file.class_names).recalls()),
    )


def is_drawn(source: ImageSource, split: EvaluatedSplit) -> bool:
    """Return whether a test or validation split is drawn from the training images."""
    train = source.members["train"].pool
    return split in ("test", "validation") and _members(source, split)[0].pool is train


def _members(source: ImageSource, split: EvaluatedSplit) -> list[Members]:
    kinds: Sequence[SplitName] = get_args(SplitName) if split == "all" else (split,)
    return [source.members[kind] for kind in kinds]


def _images(file: ExportedFile, parts: Sequence[Members]) -> Iterator[Pixels]:
    for part in parts:
        yield from file.preprocessing.read_images(part.pool, part.rows)


def _run(file: ExportedFile, images: Iterator[Pixels]) -> tuple[NDArray[np.int64], float]:
    """Return the predicted class of each image, and the median time of one."""
    predicted: list[NDArray[np.int64]] = []
    times: list[float] = []
    while batch := list(islice(images, _BATCH)):
        predicted.append(file.probabilities(np.stack(batch)).argmax(1))
        for image in batch[: _TIMED - len(times)]:
            started = time.perf_counter()
            file.run(image[None])
            times.append(time.perf_counter() - started)
    return np.concatenate(predicted), float(np.median(times))


def _class_order(file: ExportedFile, source: ImageSource) -> NDArray[np.int64]:
    """Return the index of each class of a data set among the file's outputs."""
    ours, theirs = file.class_names, source.class_names
    if not ours:
        raise ExportError(
            f"{file.path}: expected class names in its metadata or in labels.txt beside it, got "
            "none; --labels FILE names them, one a line in the order of the outputs"
        )
    if sorted(ours) != sorted(theirs):
        raise ExportError(
            f"{file.path}: expected the {len(ours)} classes of the file in {source.name}; missing "
            f"there: {_listed(ours, theirs)}; only there: {_listed(theirs, ours)}"
        )
    return np.array([ours.index(name) for name in theirs], np.int64)


def _listed(names: Sequence[str], without: Sequence[str]) -> str:
    found = sorted(set(names) - set(without))
    return ", ".join(found[:_LISTED]) + (", ..." if len(found) > _LISTED else "") or "none"
