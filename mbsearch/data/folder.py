"""Image folders: one folder per class, optionally inside one folder per split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mbsearch.data.inspection import image_extensions
from mbsearch.data.labelled_files import SPLIT_WORDS, LabelledFiles
from mbsearch.data.listing import Listing, count_files, left_out_reason, list_files
from mbsearch.errors import DataError

_BESIDE = "beside the class folders"


def list_folder(root: Path) -> LabelledFiles:
    """Return the files of a folder with their classes and splits.

    Raises:
        DataError: the folder is missing or has another layout; the message names the place.
        OSError: a folder cannot be read.
    """
    parts = _parts(root)
    names = {part: tuple(sorted(_subfolders(folder))) for part, folder in parts.items()}
    classes = _class_names(parts, names)
    homes = {(part, name): folder / name for part, folder in parts.items() for name in classes}
    listing = list_files(homes, image_extensions())
    _leave_out_beside(root, parts, listing)
    places = {key: str(home) for key, home in homes.items()}
    return LabelledFiles(root, tuple(parts), classes, places, listing)


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
    named = {name for name in subfolders if name.lower() in SPLIT_WORDS}
    for name in sorted(named):
        part = SPLIT_WORDS[name.lower()]
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


def _listed(names: Iterable[str], without: tuple[str, ...] = ()) -> str:
    words = sorted(set(names) - set(without))
    return ", ".join(words[:5]) + (", ..." if len(words) > 5 else "") or "none"
