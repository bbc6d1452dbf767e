"""The images on which a network errs most: in most of its trainings, with most confidence."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbsearch.analysis.kept_predictions import KeptPredictions
from mbsearch.study.identity import IDENTITY
from mbsearch.study.images_record import IMAGES
from mbsearch.study.records import Predictions

WORST_ERRORS = (
    "Images that most seeds classify wrongly, the most confident first if confidences were stored."
)
"""Order of `worst_errors` in words."""


@dataclass(frozen=True, slots=True)
class WorstError:
    """An image that a network classifies wrongly.

    `position` is the image's in its split. `predicted` is the most frequent wrong class of the
    `seeds` trainings that err, of `trainings`. `confidence` is their mean probability of the class
    that they predict; None if it was not stored.
    """

    position: int
    true: int
    predicted: int
    seeds: int
    trainings: int
    confidence: float | None = None

    def caption(self, names: Sequence[str]) -> str:
        """Return predicted class, confidence and seeds: ``Shirt, confidence 0.98, 2 of 3 seeds``.

        Args:
            names: of the classes.
        """
        found = [names[self.predicted]]
        if self.confidence is not None:
            found.append(f"confidence {self.confidence:.2f}")
        if self.trainings > 1:
            found.append(f"{self.seeds} of {self.trainings} seeds")
        return ", ".join(found)


@dataclass(frozen=True, slots=True, eq=False)
class PictureRequest:
    """The images to show: their positions in a split of a study with these settings.

    `labels` are the true classes of the whole split, by which other images are recognised.
    """

    settings: Mapping[str, Any]
    split: str
    labels: NDArray[np.uint16]
    positions: tuple[int, ...]

    @staticmethod
    def of(
        settings: Mapping[str, Any], kept: KeptPredictions, errors: Sequence[WorstError]
    ) -> PictureRequest:
        """Return the request for the pictures of errors of a network's predictions."""
        images = {key: settings[key] for key in (IDENTITY, IMAGES) if key in settings}
        positions = tuple(each.position for each in errors)
        return PictureRequest(images, kept.split, kept.own[0].labels, positions)

    def to_json(self) -> str:
        """Return the request as JSON."""
        return json.dumps(
            {
                "settings": self.settings,
                "split": self.split,
                "labels": self.labels.tolist(),
                "positions": self.positions,
            }
        )

    @staticmethod
    def from_json(text: str) -> PictureRequest:
        """Return the request from JSON."""
        data = json.loads(text)
        labels = np.array(data["labels"], np.uint16)
        return PictureRequest(data["settings"], data["split"], labels, tuple(data["positions"]))


@dataclass(frozen=True, slots=True)
class ErrorPictures:
    """JPEG files of the worst errors, in their order; or the problem, a line that says why not."""

    files: tuple[bytes, ...] = ()
    problem: str = ""

    def source(self, i: int) -> str | None:
        """Return picture `i` as a data URL; None without pictures."""
        if not self.files:
            return None
        return f"data:image/jpeg;base64,{b64encode(self.files[i]).decode()}"

    def to_json(self) -> str:
        """Return the pictures as JSON."""
        files = [b64encode(file).decode() for file in self.files]
        return json.dumps({"files": files, "problem": self.problem})

    @staticmethod
    def from_json(text: str) -> ErrorPictures:
        """Return the pictures from JSON."""
        data = json.loads(text)
        return ErrorPictures(tuple(map(b64decode, data["files"])), data["problem"])


def worst_errors(trainings: Sequence[Predictions], most: int = 12) -> list[WorstError]:
    """Return the images that most trainings classify wrongly, at equal number the most confident.

    Without confidences, the first images of each confusion of two classes come first.

    Args:
        trainings: of one network, one a seed, at least one.
        most: number of images.
    """
    wrong = np.array([~each.correct for each in trainings])
    counts = wrong.sum(axis=0)
    confidence = None
    if all(each.confidence is not None for each in trainings):
        kept = np.array([each.confidence for each in trainings], float) / 255
        confidence = (kept * wrong).sum(axis=0) / np.maximum(counts, 1)
    ranked = -_occurrences(trainings[0]) if confidence is None else confidence
    order = np.lexsort((-ranked, -counts))[:most]
    found = []
    for i in map(int, order[counts[order] > 0]):
        classes = [
            int(each.predicted[i])
            for each, errs in zip(trainings, wrong[:, i], strict=True)
            if errs
        ]
        found.append(
            WorstError(
                i,
                int(trainings[0].labels[i]),
                max(classes, key=classes.count),
                int(counts[i]),
                len(trainings),
                None if confidence is None else float(confidence[i]),
            )
        )
    return found


def _occurrences(predictions: Predictions) -> NDArray[np.int64]:
    """Return how many earlier images have the same true and predicted class, for each image."""
    earlier: Counter[tuple[int, int]] = Counter()
    found = np.zeros(len(predictions.labels), np.int64)
    pairs = zip(predictions.labels.tolist(), predictions.predicted.tolist(), strict=True)
    for i, pair in enumerate(pairs):
        found[i] = earlier[pair]
        earlier[pair] += 1
    return found
