"""Leave out classes with too few images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mbsearch.data.splits import Rows
from mbsearch.errors import DataError

MIN_IMAGES = "proxy.min_images"
"""Key of the least number of training images of a class."""


@dataclass(frozen=True, slots=True)
class ChosenClasses:
    """The classes of a data set that have enough images.

    Args:
        names: of these classes.
        numbers: for each class of the data set its number among these; -1 for one left out.
        left_out: number of training images of each class that was left out, by its name.
    """

    names: tuple[str, ...]
    numbers: Rows
    left_out: dict[str, int]

    @property
    def notes(self) -> tuple[str, ...]:
        """A line of text about the classes left out, if there are any."""
        if not self.left_out:
            return ()
        named = ", ".join(f"{name}: {count:,}" for name, count in self.left_out.items())
        noun = "class" if len(self.left_out) == 1 else "classes"
        return (f"left out by {MIN_IMAGES}: {len(self.left_out):,} {noun} ({named})",)


def choose_classes(data: str, names: Sequence[str], labels: Rows, min_images: int) -> ChosenClasses:
    """Return the classes that have at least `min_images` images.

    Args:
        data: name of the data set, for messages.
        names: of all classes.
        labels: of the training images, before validation and test images are drawn from them;
            equal images count once.
        min_images: the least number.

    Raises:
        DataError: fewer than two classes are left.
    """
    counts = np.bincount(labels, minlength=len(names))
    kept = counts >= min_images
    if kept.sum() < 2 <= len(names):
        most = int(np.sort(counts)[-2])
        raise DataError(
            f"{data}: expected at least two classes of {min_images:,} images or more "
            f"({MIN_IMAGES}), got {kept.sum()}; with at most {most:,} two are left"
        )
    numbers = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int64)
    left_out = {name: int(n) for name, n, k in zip(names, counts, kept, strict=True) if not k}
    return ChosenClasses(
        tuple(name for name, k in zip(names, kept, strict=True) if k), numbers, left_out
    )
