"""Groups of images that stay in one split: of one object, patient or burst, or of equal content."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbsearch.data.splits import Rows


def joined_groups(names: Sequence[str], originals: Rows) -> Rows | None:
    """Return the number of each image's group, with groups that share equal images joined.

    Args:
        names: of the group of each image; an empty name is an image without a group.
        originals: for each image the row of the first one of equal content.

    Returns:
        For each image the least row of its group; None if no image has a group.
    """
    if not any(names):
        return None
    first: dict[str, int] = {}
    parents = originals.tolist()

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for row, name in enumerate(names):
        if name:
            one, other = root(row), root(first.setdefault(name, row))
            parents[max(one, other)] = min(one, other)
    return np.array([root(row) for row in range(len(names))], np.int64)


def assign_groups(labels: Rows, groups: Rows, shares: Sequence[float], seed: int) -> Rows | None:
    """Assign each image to a part, all images of a group to the same one.

    Each part first gets a small group of every class, of the rarest class first. The other groups,
    the largest first, go where the numbers of images per class are farthest below the shares of
    the parts (least squares, each class weighted equally).

    Args:
        labels: class of each image.
        groups: number of each image's group.
        shares: of the images in each part, with a sum of 1.
        seed: of the order of groups of equal size.

    Returns:
        The part of each image; None if not every part gets an image of every class.
    """
    _, units = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(units.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(counts, (units, labels), 1)
    assignment = _Assignment(counts, np.asarray(shares, float))
    order = np.random.default_rng(seed).permutation(len(counts))
    largest_first = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    assignment.cover(largest_first[::-1])
    for unit in largest_first[assignment.parts[largest_first] < 0].tolist():
        assignment.assign(unit, assignment.best_part(unit))
    return assignment.parts[units] if (assignment.filled > 0).all() else None


class _Assignment:
    """Groups that are assigned to parts one after the other."""

    def __init__(self, counts: Rows, shares: np.ndarray) -> None:
        self._counts = counts  # images by group and class
        self._total = counts.sum(axis=0)
        self._target = shares[:, None] * self._total
        self._order = np.argsort(shares, kind="stable").tolist()
        self.parts = np.full(len(counts), -1, np.int64)
        self.filled = np.zeros((len(shares), counts.shape[1]), np.int64)

    def cover(self, smallest_first: Rows) -> None:
        """Assign one group of every class to every part, the rarest class first."""
        rarest_first = np.argsort((self._counts > 0).sum(axis=0), kind="stable")
        for label in rarest_first.tolist():
            for part in self._order:
                if not self.filled[part, label]:
                    free = smallest_first[
                        (self.parts[smallest_first] < 0) & (self._counts[smallest_first, label] > 0)
                    ]
                    if len(free):
                        self.assign(int(free[0]), part)

    def best_part(self, unit: int) -> int:
        """Return the part whose numbers of images deviate least from their targets afterwards."""
        added = self._counts[unit]
        before = self.filled - self._target
        change = ((before + added) ** 2 - before**2) / self._total**2
        return int(change.sum(axis=1).argmin())

    def assign(self, unit: int, part: int) -> None:
        """Assign a group to a part."""
        self.parts[unit] = part
        self.filled[part] += self._counts[unit]
