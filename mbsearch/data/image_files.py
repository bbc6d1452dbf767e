"""The images of a data set's files: readable, with equal ones in one split, and identified."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mbsearch.data.cache import cache_dir, cached_text
from mbsearch.data.decoding import Depth, Reading, scaling_range
from mbsearch.data.equal_contents import in_later_split, originals
from mbsearch.data.folder_notes import image_notes, left_out_notes, reasons
from mbsearch.data.image_groups import joined_groups
from mbsearch.data.inspection import FileReport, Inspected, inspect_files
from mbsearch.data.labelled_files import LabelledFiles
from mbsearch.data.listing import ListedFile, Listing
from mbsearch.data.rare_classes import MIN_IMAGES
from mbsearch.data.readers import FilePool
from mbsearch.data.splits import Rows
from mbsearch.errors import DataError
from mbsearch.progress import OnProgress

_NAMED = 10  # damaged files in a message
# How the first version scaled grey images: such data sets keep their key.
_UNCHANGED = {("16-bit", 0, 65535), ("32-bit", 0, 65535)}


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that is named like an image but cannot be read, and the reason."""

    path: Path
    fault: str


_Damage = tuple[ListedFile, DamagedFile]


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The readable images of a data set's files.

    `pools` has the images of each split found, "train" always. `originals` gives for each training
    image the row of the first one of equal content. `groups` gives for each training image the
    number of its group, of which equal images are part; None if no file has a group. `key` is a
    hash of the files' names, sizes and contents, and of what else changes their pixels or splits.
    `former_key` has their times in place of their contents, as in studies of earlier versions.
    `notes` describe what was left out and changed.
    """

    class_names: tuple[str, ...]
    pools: Mapping[str, FilePool]
    originals: Rows
    groups: Rows | None
    key: str
    former_key: str
    notes: tuple[str, ...]
    damaged: tuple[DamagedFile, ...]


def read_files(
    found: LabelledFiles, on_progress: OnProgress | None = None, min_images: int = 1
) -> ImageFiles:
    """Read each file, or use the report of an earlier reading.

    Args:
        found: the files.
        on_progress: receives events while images are read; None writes lines to the log.
        min_images: classes with fewer training images, which are left out later, may be empty.

    Raises:
        DataError: a class has no images, or two classes share an image; the message names the
            place.
    """
    listing = found.listing
    images, damaged = _split_damaged(found, inspect_files(found.root, listing.files, on_progress))
    copied = in_later_split(images)
    left = Counter((images[row][0].split, images[row][0].class_name) for row in copied)
    images = [image for row, image in enumerate(images) if row not in copied]
    rare = _classes_below(min_images, found.class_names, images)
    used = {key: place for key, place in found.places.items() if key[1] not in rare}
    _require_images(used, images, damaged, listing, left)
    reading = _reading(images)
    pools = {part: _pool(part, images, found.class_names, reading) for part in found.parts}
    train = [image for image in images if image[0].split == "train"]
    first = originals(train)
    copies = len(first) - len(np.unique(first))
    groups = joined_groups([file.group for file, _ in train], first)
    notes = (
        *left_out_notes(listing.left_out),
        *_copy_notes(listing.linked, copies, len(copied)),
        *found.notes,
        *image_notes(found.root, images, reading),
    )
    changes = _changes(images, reading, copies)
    key, former = (_key(found, images, changes, by) for by in ("digest", "mtime_ns"))
    faults = tuple(damage for _, damage in damaged)
    return ImageFiles(found.class_names, pools, first, groups, key, former, notes, faults)


def _split_damaged(
    found: LabelledFiles, reports: Sequence[FileReport]
) -> tuple[list[Inspected], list[_Damage]]:
    """Return readable images and damaged ones; count other files in `listing.left_out`.

    A file that a table names is damaged, whatever its extension, if it is no image.
    """
    images: list[Inspected] = []
    damaged = [
        (file, DamagedFile(file.path, "the link has no target")) for file in found.listing.broken
    ]
    for file, report in zip(found.listing.files, reports, strict=True):
        if not report.fault:
            images.append((file, report))
        elif report.is_image or not found.in_class_folders:
            damaged.append((file, DamagedFile(file.path, report.fault)))
        else:
            found.listing.leave_out(file.class_name, report.fault)
    return images, damaged


def damage_message(root: str | Path, damaged: Sequence[DamagedFile]) -> str:
    """Return a message that names damaged files; if they are many, a file lists all of them.

    Raises:
        DataError: the cache, where the list is written, is not writable.
    """
    named = ", ".join(f"{file.path} ({file.fault})" for file in damaged[:_NAMED])
    if len(damaged) == 1:
        return (
            f"{damaged[0].path}: expected an image, got a file that cannot be read "
            f"({damaged[0].fault})"
        )
    message = f"{root}: expected images, got {len(damaged):,} files that cannot be read: {named}"
    if len(damaged) <= _NAMED:
        return message
    lines = "".join(f"{file.path}\t{file.fault}\n" for file in damaged)
    name = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = cache_dir() / f"damaged-{name}.txt"
    cached_text(path, lambda: lines)
    return f"{message} and {len(damaged) - _NAMED:,} more; {path} lists all"


def _require_images(
    places: Mapping[tuple[str, str], str],
    images: Sequence[Inspected],
    damaged: Sequence[_Damage],
    listing: Listing,
    dropped: Collection[tuple[str, str]],
) -> None:
    """Raise an error if a class has no image in a split."""
    counts = Counter((file.split, file.class_name) for file, _ in images)
    for key, place in places.items():
        if counts[key]:
            continue
        if lost := [fault for file, fault in damaged if (file.split, file.class_name) == key]:
            raise DataError(damage_message(place, lost))
        if key in dropped:
            raise DataError(
                f"{place}: expected images of its own, got only copies of images of a later split "
                "(validation, then test)"
            )
        why = listing.left_out.get(key[1])
        got = f"only other files ({reasons(why)})" if why else "none"
        way = f"; {MIN_IMAGES} leaves classes of few images out" if key[0] == "train" else ""
        raise DataError(f"{place}: expected images that Pillow opens, got {got}{way}")


def _pool(
    part: str, images: Sequence[Inspected], classes: Sequence[str], reading: Reading
) -> FilePool:
    chosen = [(file, report) for file, report in images if file.split == part]
    label = {name: number for number, name in enumerate(classes)}
    return FilePool(
        tuple(file.path for file, _ in chosen),
        np.array([label[file.class_name] for file, _ in chosen], np.int64),
        np.array([report.grey for _, report in chosen], np.bool_),
        reading,
    )


def _reading(images: Sequence[Inspected]) -> Reading:
    """Return how a data set's pixel values are scaled to 8 bits."""
    ranges: list[tuple[Depth, float, float]] = []
    for depth in ("16-bit", "32-bit", "floating-point"):
        deep = [report for _, report in images if report.depth == depth]
        if deep:
            low, high = min(each.low for each in deep), max(each.high for each in deep)
            ranges.append((depth, *scaling_range(depth, low, high)))
    return Reading(tuple(ranges))


def _changes(images: Sequence[Inspected], reading: Reading, copies: int) -> list[str]:
    """Return the ways in which pixels or splits differ from mbsearch's first version."""
    changes = [f"{each}" for each in reading.ranges if each not in _UNCHANGED]
    if any(report.depth == "16-bit" and not report.grey for _, report in images):
        changes.append("16-bit colours")
    if any(report.transparent for _, report in images):
        changes.append("on white")
    if copies:
        changes.append("copies in one split")
    return changes


def _copy_notes(linked: int, copies: int, dropped: int) -> list[str]:
    notes = []
    if linked:
        notes.append(f"links to files that are listed already, counted once: {linked:,}")
    if copies:
        notes.append(f"equal training images, kept in the same split: {copies:,} copies")
    if dropped:
        notes.append(
            f"left out: {dropped:,} images of which a later split (validation, then test) holds "
            "an equal one"
        )
    return notes


def _classes_below(
    min_images: int, classes: Iterable[str], images: Sequence[Inspected]
) -> set[str]:
    """Classes with fewer training images than `min_images`."""
    counts = Counter(file.class_name for file, _ in images if file.split == "train")
    return {name for name in classes if min_images > 1 and counts[name] < min_images}


def _key(
    found: LabelledFiles,
    images: Sequence[Inspected],
    changes: Iterable[str],
    by: Literal["digest", "mtime_ns"],
) -> str:
    """Return a hash of the files, by content or time, and of the changes in pixels or splits."""
    digest = hashlib.sha256()
    for part in found.parts:
        for file, report in images:
            if file.split == part:
                mark = report.digest if by == "digest" else file.mtime_ns
                line = f"{part}\0{file.path.relative_to(found.root)}\0{file.size}\0{mark}\n"
                if not found.in_class_folders:
                    line += f"{file.class_name}\0{file.group}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
    for change in changes:
        digest.update(f"{change}\n".encode())
    return digest.hexdigest()
