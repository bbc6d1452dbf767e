"""Find images with equal contents, which leak across splits or have contradictory labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbsearch.data.inspection import Inspected
from mbsearch.data.splits import Rows
from mbsearch.errors import DataError

_ORDER = {"train": 0, "validation": 1, "test": 2}


def in_later_split(images: Sequence[Inspected]) -> set[int]:
    """Return the positions of images with a copy in a later split (validation, then test).

    Raises:
        DataError: images of two classes are equal.
    """
    groups: dict[str, list[int]] = {}
    for row, (_, report) in enumerate(images):
        groups.setdefault(report.digest, []).append(row)
    copies = [rows for rows in groups.values() if len(rows) > 1]
    _require_one_class(images, copies)
    found: set[int] = set()
    for rows in copies:
        last = max((images[row][0].split for row in rows), key=_ORDER.__getitem__)
        found.update(row for row in rows if images[row][0].split != last)
    return found


def originals(images: Sequence[Inspected]) -> Rows:
    """Return, for each image, the position of the first image with equal content."""
    first: dict[str, int] = {}
    rows = [first.setdefault(report.digest, row) for row, (_, report) in enumerate(images)]
    return np.array(rows, np.int64)


def _require_one_class(images: Sequence[Inspected], copies: Sequence[Sequence[int]]) -> None:
    pairs = []
    for rows in copies:
        one, *others = (images[row][0] for row in rows)
        other = next((file for file in others if file.class_name != one.class_name), None)
        if other is not None:
            pairs.append((one.path, other.path))
    if pairs:
        (one_path, other_path), count = pairs[0], len(pairs)
        more = f" (the first of {count:,} such pairs)" if count > 1 else ""
        raise DataError(
            f"{one_path}: expected an image of one class, got the content of {other_path}{more}; "
            "delete the copies that are in the wrong class"
        )
