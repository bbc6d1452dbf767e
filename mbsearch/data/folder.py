"""Image folders: one folder per class, optionally inside one folder per split."""

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
from mbsearch.data.inspection import FileReport, Inspected, image_extensions, inspect_files
from mbsearch.data.listing import Listing, count_files, left_out_reason, list_files
from mbsearch.data.rare_classes import MIN_IMAGES
from mbsearch.data.readers import FilePool
from mbsearch.data.splits import Rows
from mbsearch.errors import DataError
from mbsearch.progress import OnProgress

_PARTS = {  # in lower case
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_NAMED = 10  # damaged files in a message
_BESIDE = "beside the class folders"
# How the first version scaled grey images: such data sets keep their key.
_UNCHANGED = {("16-bit", 0, 65535), ("32-bit", 0, 65535)}


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that is named like an image but cannot be read, and the reason."""

    path: Path
    fault: str


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The readable images of a folder.

    `pools` has the images of each split found, "train" always. `originals` gives for each training
    image the row of the first one of equal content. `key` is a hash of the files' names, sizes and
    contents, and of what else changes their pixels or splits. `former_key` has their times in place
    of their contents, as in studies of earlier versions. `notes` describe what was left out and
    changed.
    """

    class_names: tuple[str, ...]
    pools: Mapping[str, FilePool]
    originals: Rows
    key: str
    former_key: str
    notes: tuple[str, ...]
    damaged: tuple[DamagedFile, ...]


def read_folder(
    root: Path, on_progress: OnProgress | None = None, min_images: int = 1
) -> ImageFolder:
    """List a folder's images, and read each one or use the report of an earlier reading.

    Args:
        root: the folder.
        on_progress: receives events while images are read; None writes lines to the log.
        min_images: classes with fewer training images, which are left out later, may be empty.

    Raises:
        DataError: the folder is missing or has another layout, a class has no images, or two
            classes share an image; the message names the place.
    """
    parts = _parts(root)
    names = {part: tuple(sorted(_subfolders(folder))) for part, folder in parts.items()}
    classes = _class_names(parts, names)
    homes = {(part, name): folder / name for part, folder in parts.items() for name in classes}
    listing = list_files(homes, image_extensions())
    _leave_out_beside(root, parts, listing)
    images, damaged = _split_damaged(listing, inspect_files(root, listing.files, on_progress))
    copied = in_later_split(images)
    left = Counter((images[row][0].split, images[row][0].class_name) for row in copied)
    images = [image for row, image in enumerate(images) if row not in copied]
    rare = _classes_below(min_images, classes, images)
    used = {key: home for key, home in homes.items() if key[1] not in rare}
    _require_images(used, images, damaged, listing, left)
    reading = _reading(images)
    pools = {part: _pool(part, images, classes, reading) for part in parts}
    first = originals([image for image in images if image[0].split == "train"])
    copies = len(first) - len(np.unique(first))
    notes = (
        *left_out_notes(listing.left_out),
        *_copy_notes(listing.linked, copies, len(copied)),
        *image_notes(root, images, reading),
    )
    changes = _changes(images, reading, copies)
    key, former = (_key(root, parts, images, changes, by) for by in ("digest", "mtime_ns"))
    return ImageFolder(classes, pools, first, key, former, notes, tuple(damaged))


def _split_damaged(
    listing: Listing, reports: Sequence[FileReport]
) -> tuple[list[Inspected], list[DamagedFile]]:
    """Return readable images and damaged ones; count other files in `listing.left_out`."""
    images: list[Inspected] = []
    damaged = [DamagedFile(file.path, "the link has no target") for file in listing.broken]
    for file, report in zip(listing.files, reports, strict=True):
        if not report.fault:
            images.append((file, report))
        elif report.is_image:
            damaged.append(DamagedFile(file.path, report.fault))
        else:
            listing.leave_out(file.class_name, report.fault)
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


def _class_names(
    parts: Mapping[str, Path], names: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the class names; raise an error unless all splits have the same."""
    classes = names["train"]
    if not classes:
        got = "nothing" if not any(parts["train"].iterdir()) else "no folders"
        raise DataError(f"{parts['train']}: expected one folder of images per class, got {got}")
    if len(classes) == 1:
        raise DataError(
            f"{parts['train']}: expected at least two class folders, got only {classes[0]!r}"
        )
    for part, found in names.items():
        if found != classes:
            raise DataError(
                f"{parts[part]}: expected the class folders of {parts['train']}; "
                f"missing here: {_listed(classes, found)}; only here: {_listed(found, classes)}"
            )
    return classes


def _parts(root: Path) -> dict[str, Path]:
    """Return the folder of each split; without a folder `train`, all images are in the root."""
    if not root.is_dir():
        got = "a file" if root.exists() else "no such folder"
        raise DataError(f"{root}: expected a folder of images, got {got}")
    found: dict[str, Path] = {}
    subfolders = _subfolders(root)
    named = {name for name in subfolders if name.lower() in _PARTS}
    for name in sorted(named):
        part = _PARTS[name.lower()]
        if part in found:
            raise DataError(
                f"{root}: expected one folder of {part} images, "
                f"got {found[part].name!r} and {name!r}"
            )
        found[part] = subfolders[name]
    # A class may also be called train: then other classes are beside it, and it has no subfolders.
    only = len(named) == len(subfolders)
    if "train" in found and (only or _subfolders(found["train"])):
        return found
    if found and only:
        raise DataError(f"{root}: expected a folder 'train', got only {_listed(subfolders)}")
    return {"train": root}


def _subfolders(folder: Path) -> dict[str, Path]:
    return {
        path.name: path
        for path in folder.iterdir()
        if path.is_dir() and left_out_reason(path.name) is None
    }


def _leave_out_beside(root: Path, parts: Mapping[str, Path], listing: Listing) -> None:
    """Count files outside class folders, or in folders beside the splits, as left out."""
    for folder in dict.fromkeys((root, *parts.values())):
        used = set(parts.values()) if folder == root and root not in parts.values() else None
        name = folder.resolve().name
        for path in folder.iterdir():
            reason = left_out_reason(path.name)
            if not path.is_dir():
                listing.leave_out(name, reason or _BESIDE)
            elif reason is not None:
                listing.leave_out(name, reason, count_files(path))
            elif used is not None and path not in used:
                listing.leave_out(name, f"in {path.name}, beside train", count_files(path))


def _require_images(
    homes: Mapping[tuple[str, str], Path],
    images: Sequence[Inspected],
    damaged: Sequence[DamagedFile],
    listing: Listing,
    dropped: Collection[tuple[str, str]],
) -> None:
    """Raise an error if a class has no image in a split."""
    counts = Counter((file.split, file.class_name) for file, _ in images)
    for key, home in homes.items():
        if counts[key]:
            continue
        if lost := [file for file in damaged if home in file.path.parents]:
            raise DataError(damage_message(home, lost))
        if key in dropped:
            raise DataError(
                f"{home}: expected images of its own, got only copies of images of a later split "
                "(validation, then test)"
            )
        why = listing.left_out.get(key[1])
        got = f"only other files ({reasons(why)})" if why else "none"
        way = f"; {MIN_IMAGES} leaves classes of few images out" if key[0] == "train" else ""
        raise DataError(f"{home}: expected images that Pillow opens, got {got}{way}")


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
    root: Path,
    parts: Iterable[str],
    images: Sequence[Inspected],
    changes: Iterable[str],
    by: Literal["digest", "mtime_ns"],
) -> str:
    """Return a hash of the files, by content or time, and of the changes in pixels or splits."""
    digest = hashlib.sha256()
    for part in parts:
        for file, report in images:
            if file.split == part:
                mark = report.digest if by == "digest" else file.mtime_ns
                line = f"{part}\0{file.path.relative_to(root)}\0{file.size}\0{mark}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
    for change in changes:
        digest.update(f"{change}\n".encode())
    return digest.hexdigest()


def _listed(names: Iterable[str], without: tuple[str, ...] = ()) -> str:
    words = sorted(set(names) - set(without))
    return ", ".join(words[:5]) + (", ..." if len(words) > 5 else "") or "none"
