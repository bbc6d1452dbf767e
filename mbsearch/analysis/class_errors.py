"""Errors of a network by class: confusions and recalls, beside those of a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbsearch.analysis.kept_predictions import KeptPredictions
from mbsearch.study.images_record import ImagesRecord
from mbsearch.study.noise import interval
from mbsearch.study.records import Predictions


@dataclass(frozen=True, slots=True)
class ClassRecall:
    """Recall of a class with its 95 % interval, and that of a reference if it is known."""

    name: str
    images: int
    recall: float
    low: float
    high: float
    reference: float | None = None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images of a class that were predicted as another, as a mean over seeds."""

    true: str
    predicted: str
    images: float
    reference: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ClassErrors:
    """Confusion matrices of a network and of a reference, as means over seeds.

    Rows are true classes, columns predicted ones, entries numbers of images.
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]
    reference: NDArray[np.float64] | None = None

    @staticmethod
    def of(
        trainings: Sequence[Predictions],
        reference: Sequence[Predictions] = (),
        names: Sequence[str] = (),
    ) -> ClassErrors:
        """Count a network's confusions, given one training per seed.

        Args:
            trainings: of the network, at least one.
            reference: trainings of another network; ignored if its images are others.
            names: of the classes; without them they are numbered.
        """
        labels = trainings[0].labels
        same = [p for p in reference if np.array_equal(p.labels, labels)]
        highest = max(int(max(p.labels.max(), p.predicted.max())) for p in (*trainings, *same))
        count = max(len(names), highest + 1)
        known = tuple(names) if len(names) == count else tuple(f"class {i}" for i in range(count))
        return ClassErrors(
            known, _confusions(trainings, count), _confusions(same, count) if same else None
        )

    def recalls(self) -> list[ClassRecall]:
        """Return the recall of each class that has images, the lowest first."""
        found = []
        for i, name in enumerate(self.names):
            images = round(float(self.matrix[i].sum()))
            if not images:
                continue
            recall = float(self.matrix[i, i]) / images
            other = None if self.reference is None else float(self.reference[i, i]) / images
            found.append(ClassRecall(name, images, recall, *interval(recall, images, 0.0), other))
        return sorted(found, key=lambda each: each.recall)

    def confusions(self, most: int = 12) -> list[Confusion]:
        """Return the most frequent confusions of two classes, by decreasing frequency."""
        wrong = self.matrix - np.diag(np.diag(self.matrix))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        places = [divmod(int(place), len(self.names)) for place in order]
        return [
            Confusion(
                self.names[i],
                self.names[j],
                float(wrong[i, j]),
                None if self.reference is None else float(self.reference[i, j]),
            )
            for i, j in places
            if wrong[i, j] > 0
        ]


def class_errors(kept: KeptPredictions, images: ImagesRecord | None) -> ClassErrors:
    """Return the errors of kept predictions, with the names of the classes if they are known."""
    return ClassErrors.of(kept.own, kept.reference, () if images is None else images.class_names)


def _confusions(trainings: Sequence[Predictions], count: int) -> NDArray[np.float64]:
    matrix = np.zeros((count, count))
    for each in trainings:
        np.add.at(matrix, (each.labels.astype(int), each.predicted.astype(int)), 1)
    return matrix / len(trainings)
