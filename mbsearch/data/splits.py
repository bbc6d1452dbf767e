"""Stratified sampling: each class keeps its share, and at least one image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def stratified(labels: Rows, count: int, seed: int, *, keep: int = 0) -> tuple[Rows, Rows]:
    """Sample `count` rows with a seed; return chosen rows and the rest, both ascending.

    One row per class is chosen, and its share of the others. With the same seed a smaller sample is
    part of a larger one, up to rounding. `keep` rows of each class stay in the rest.

    Raises:
        ValueError: a class has no more than `keep` rows, or `count` is not between the number of
            classes and the number of rows that may be chosen.
    """
    classes, counts = np.unique(labels, return_counts=True)
    room = counts - keep - 1
    extra = count - len(classes)
    if len(room) == 0 or room.min() < 0 or not 0 <= extra <= room.sum():
        raise ValueError(f"cannot choose {count} of {len(labels)} rows in {len(classes)} classes")
    # Largest remainders in integers: the shares are exact, and ties fall to the first class.
    total = max(1, int(room.sum()))
    quota, remainder = extra * room // total, extra * room % total
    quota[np.argsort(-remainder, kind="stable")[: extra - int(quota.sum())]] += 1
    rng = np.random.default_rng(seed)
    chosen = np.concatenate(
        [
            rng.permutation(np.flatnonzero(labels == label))[: 1 + more]
            for label, more in zip(classes, quota, strict=True)
        ]
    )
    return np.sort(chosen), np.setdiff1d(np.arange(len(labels)), chosen)
