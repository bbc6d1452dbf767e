"""List the image files in class folders, without duplicates, and count skipped files."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mbsearch.errors import DataError

HIDDEN, THUMBNAIL, SYSTEM = "hidden", "thumbnails", "files of the operating system"
SPECIAL, BROKEN_LINK, NOT_IMAGE = "not a regular file", "broken links", "not an image"

_THUMBNAIL_FOLDERS = {"@eadir", ".thumbnails", ".@__thumb", ".thumb", ".thumbs"}
_SYSTEM_FOLDERS = {"__macosx", "#recycle", "$recycle.bin", "system volume information"}
_THUMBNAIL_FILES = {"thumbs.db", "ehthumbs.db", "thumbs.db:encryptable"}
_SYSTEM_FILES = {"desktop.ini", ".ds_store", "icon\r"}


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A regular file of a class, with size and modification time.

    `group` names what it shows together with other files of the group, such as one patient; it is
    empty for a file without a group.
    """

    path: Path
    split: str
    class_name: str
    size: int
    mtime_ns: int
    group: str = ""


@dataclass(slots=True)
class Listing:
    """The files in all class folders.

    `files` are in the order of classes, folders and names. `broken` are links without a target that
    are named like files. `left_out` counts files by class name and reason; `linked` counts further
    names of files that are listed once.
    """

    files: list[ListedFile] = field(default_factory=list)
    broken: list[ListedFile] = field(default_factory=list)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    linked: int = 0

    def leave_out(self, name: str, reason: str, count: int = 1) -> None:
        """Count files as left out for a reason."""
        if count:
            self.left_out.setdefault(name, Counter())[reason] += count


def left_out_reason(name: str) -> str | None:
    """Return why a file or folder with this name is left out, or None."""
    lower = name.lower()
    if lower in _THUMBNAIL_FOLDERS or lower in _THUMBNAIL_FILES:
        return THUMBNAIL
    if lower in _SYSTEM_FOLDERS or lower in _SYSTEM_FILES or lower.startswith("._"):
        return SYSTEM
    return HIDDEN if name.startswith(".") else None


def count_files(folder: str | Path) -> int:
    """Return the number of files below a folder, without following links."""
    return sum(len(names) for _, _, names in os.walk(folder))


def list_files(classes: Mapping[tuple[str, str], Path], known: Iterable[str]) -> Listing:
    """Return the files in every class folder.

    Args:
        classes: folder by split and class name.
        known: extensions of images, lower case with their dot.

    Raises:
        DataError: a link leads to a folder that holds it, or into another class or split.
        OSError: a folder cannot be read.
    """
    homes = {key: os.path.realpath(folder) for key, folder in classes.items()}
    _require_apart(classes, homes)
    places = {homes[key]: folder for key, folder in classes.items()}
    above = frozenset(str(parent) for home in places for parent in Path(home).parents)
    listing, extensions = Listing(), frozenset(known)
    for (split, name), folder in classes.items():
        walk = _Walk(listing, split, name, folder, places, above, extensions)
        walk.enter(str(folder), homes[split, name], ())
        walk.finish()
    return listing


def _require_apart(
    classes: Mapping[tuple[str, str], Path], homes: Mapping[tuple[str, str], str]
) -> None:
    """Raise an error if a class folder is a link to or into another one."""
    keys = sorted(homes, key=lambda key: Path(homes[key]).parts)  # a folder, then its own
    for outer, inner in pairwise(keys):
        if _inside(homes[inner], homes[outer]):
            pair = (classes[inner], classes[outer])
            link = next((p for p in pair if _is_linked(p)), pair[0])
            other = pair[0] if link is pair[1] else pair[1]
            raise DataError(
                f"{link}: expected a class folder of its own, got a link to "
                f"{os.path.realpath(link)}, which shares images with {other}"
            )


def _is_linked(folder: Path) -> bool:
    return folder.is_symlink() or folder.parent.is_symlink()


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


@dataclass(slots=True)
class _Walk:
    """Collects the files of one class folder."""

    listing: Listing
    split: str
    name: str
    home: Path
    places: Mapping[str, Path]
    above_classes: frozenset[str]
    extensions: frozenset[str]
    found: list[tuple[str, str, os.stat_result, bool]] = field(default_factory=list)

    def enter(self, folder: str, real: str, above: Sequence[tuple[int, int]]) -> None:
        """Collect the files below a folder; `above` has (device, inode) of each folder above it."""
        status = Path(folder).stat()
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise DataError(f"{folder}: expected images, got a link to a folder that holds it")
        with os.scandir(folder) as entries:
            for entry in entries:
                if (reason := left_out_reason(entry.name)) is not None:
                    folder_of_files = entry.is_dir(follow_symlinks=False)
                    count = count_files(entry.path) if folder_of_files else 1
                    self.listing.leave_out(self.name, reason, count)
                else:
                    self._take(entry, folder, real, (*above, here))

    def _take(
        self, entry: os.DirEntry[str], folder: str, real: str, above: Sequence[tuple[int, int]]
    ) -> None:
        target = f"{real}/{entry.name}"
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            self._require_own(entry.path, target, real)
        if entry.is_dir():
            self.enter(entry.path, target, above)
            return
        try:
            status = entry.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise DataError(f"{entry.path}: expected an image, got a link to itself") from error
            if not isinstance(error, FileNotFoundError):
                raise
            if Path(entry.name).suffix.lower() in self.extensions:
                lost = ListedFile(Path(entry.path), self.split, self.name, 0, 0)
                self.listing.broken.append(lost)
            else:
                self.listing.leave_out(self.name, BROKEN_LINK)
            return
        if stat.S_ISREG(status.st_mode):
            self.found.append((folder, entry.name, status, entry.is_symlink()))
        else:
            self.listing.leave_out(self.name, SPECIAL)

    def _require_own(self, link: str, target: str, real: str) -> None:
        """Raise an error for a link to another class's images, or to a folder that contains it."""
        if _inside(real, target):
            raise DataError(
                f"{link}: expected images, got a link to a folder that holds it ({target})"
            )
        owners = (self.places.get(str(place)) for place in (Path(target), *Path(target).parents))
        owner = next((place for place in owners if place is not None), None)
        if target in self.above_classes or (owner is not None and owner != self.home):
            raise DataError(
                f"{link}: expected images of class {self.name!r}, got a link into "
                f"{owner or target}, which holds images of others"
            )

    def finish(self) -> None:
        """Add the collected files to the listing, once for each device and inode."""
        self.found.sort(key=lambda each: each[:2])
        kept: dict[object, tuple[str, str, os.stat_result, bool]] = {}
        for each in self.found:
            status = each[2]
            # File systems without inodes give 0 to every file.
            identity = (status.st_dev, status.st_ino) if status.st_ino else each[:2]
            before = kept.setdefault(identity, each)
            if before[3] and not each[3]:
                kept[identity] = each  # the file itself, rather than a link to it
        self.listing.linked += len(self.found) - len(kept)
        for folder, name, status, _ in sorted(kept.values(), key=lambda each: each[:2]):
            self.listing.files.append(
                ListedFile(
                    Path(folder, name),
                    self.split,
                    self.name,
                    status.st_size,
                    status.st_mtime_ns,
                )
            )
