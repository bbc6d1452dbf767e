"""Folders of images: one folder per class, optionally inside one folder per split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from mbsearch.data.readers import FilePool
from mbsearch.errors import DataError

_PARTS = {  # in lower case
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def read_folder(root: Path) -> tuple[tuple[str, ...], dict[str, FilePool], str]:
    """Return class names, images of each part ("train" always), and a hash of the file list.

    Raises:
        DataError: the folder is missing or has another layout; the message names the place.
    """
    parts = _parts(root)
    names = {part: tuple(sorted(_subfolders(folder))) for part, folder in parts.items()}
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
    pools = {part: _pool(folder, classes) for part, folder in parts.items()}
    return classes, pools, _fingerprint(root, pools)


def _parts(root: Path) -> dict[str, Path]:
    """The folder of each split; a root without `train` is the folder of all images."""
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
        if path.is_dir() and not path.name.startswith(".")
    }


def _pool(folder: Path, classes: tuple[str, ...]) -> FilePool:
    samples = make_dataset(
        str(folder),
        {name: label for label, name in enumerate(classes)},
        extensions=IMG_EXTENSIONS,
        allow_empty=True,
    )
    kept = [
        (Path(path), label)
        for path, label in samples
        if not any(part.startswith(".") for part in Path(path).relative_to(folder).parts)
    ]
    pool = FilePool(
        tuple(path for path, _ in kept), np.array([label for _, label in kept], np.int64)
    )
    counts = np.bincount(pool.labels, minlength=len(classes))
    if not counts.all():
        empty = folder / classes[int(counts.argmin())]
        raise DataError(f"{empty}: expected images ({', '.join(IMG_EXTENSIONS)}), got none")
    return pool


def _fingerprint(root: Path, pools: dict[str, FilePool]) -> str:
    digest = hashlib.sha256()
    for part, pool in pools.items():
        for path in pool.paths:
            try:
                stat = path.stat()
            except OSError as error:
                raise DataError(
                    f"{path}: expected an image, got a file that cannot be read ({error.strerror})"
                ) from error
            line = f"{part}\0{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _listed(names: Iterable[str], without: tuple[str, ...] = ()) -> str:
    words = sorted(set(names) - set(without))
    return ", ".join(words[:5]) + (", ..." if len(words) > 5 else "") or "none"
