"""Find images of equal content: copies leak from training into test, or contradict their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.data.inspection import Inspected
from mbsearch.errors import DataError

_LATER = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class EqualContents:
    """Copies among the images of a folder, by their position.

    `dropped` are those of which a later split (validation, then test) holds a copy. `first` gives
    for every image the position of the first one in its split that has the same content.
    """

    dropped: frozenset[int]
    first: tuple[int, ...]


def find_equal_contents(images: Sequence[Inspected]) -> EqualContents:
    """Compare images by a hash of their content.

    Raises:
        DataError: images of two classes are equal.
    """
    groups: dict[str, list[int]] = {}
    files = [file for file, _ in images]
    for row, (_, report) in enumerate(images):
        groups.setdefault(report.digest, []).append(row)
    contradicting = []
    first = list(range(len(files)))
    dropped: set[int] = set()
    for rows in groups.values():
        if len(rows) == 1:
            continue
        other = next((r for r in rows if files[r].class_name != files[rows[0]].class_name), None)
        if other is not None:
            contradicting.append((files[rows[0]].path, files[other].path))
        last = max((files[row].split for row in rows), key=_LATER.__getitem__)
        kept = [row for row in rows if files[row].split == last]
        dropped.update(row for row in rows if files[row].split != last)
        for row in kept:
            first[row] = kept[0]
    if contradicting:
        one, two = contradicting[0]
        more = f" (of {len(contradicting):,} such pairs)" if len(contradicting) > 1 else ""
        raise DataError(
            f"{one}: expected an image of one class, got the content of {two}{more}; delete the "
            "copies that are in the wrong class"
        )
    return EqualContents(frozenset(dropped), tuple(first))
