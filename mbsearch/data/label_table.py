"""Tables of labels: a CSV file that names image files with their classes, splits and groups."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mbsearch.csv_file import csv_rows
from mbsearch.data.labelled_files import SPLIT_WORDS, LabelledFiles
from mbsearch.data.listing import ListedFile, Listing
from mbsearch.errors import DataError, did_you_mean
from mbsearch.text_file import read_text

SUFFIXES = (".csv", ".tsv", ".txt")
"""Of files that are read as tables of labels, in lower case."""

_MOST_BYTES = 1_000_000_000
_NAMED = 5  # of a list in a message
_PATH, LABEL, _SPLIT, GROUP = "path", "label", "split", "group"
_HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        _PATH: (
            *("file", "filename", "file_name", "filepath", "file_path"),
            *("image", "image_path", "image_file", "img", "img_path"),
        ),
        LABEL: ("labels", "class", "class_name", "category", "target", "species"),
        _SPLIT: ("subset", "partition", "set"),
        GROUP: (
            *("group_id", "patient", "patient_id", "subject", "subject_id"),
            *("object", "object_id", "burst", "burst_id"),
        ),
    }
)
COLUMNS = {word: name for name, words in _HEADERS.items() for word in (name, *words)}
"""Role of a column by its name in plain spelling."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One row: a listed file, and the number of its line in the table."""

    line: int
    file: ListedFile


def list_table(path: Path) -> LabelledFiles:
    """Return the files that a table of labels names, with their classes, splits and groups.

    Paths are relative to the table's folder. The order of the rows has no effect.

    Raises:
        DataError: the table cannot be read, or a row of it is invalid; the message names the line.
        OSError: a file cannot be examined.
    """
    text = read_text(path, "a table of labels (CSV)", DataError, _MOST_BYTES)
    cells = list(csv_rows(path, text, COLUMNS, (_PATH, LABEL)))
    if not cells:
        raise DataError(f"{path}: expected a row for each image, got only a header")
    rows = _without_repeats(path, list(_read_rows(path, cells)))
    classes = _class_names(path, rows)
    _require_whole_groups(path, rows)
    parts = tuple(dict.fromkeys(row.file.split for row in rows))
    files = sorted((row.file for row in rows), key=lambda file: str(file.path))
    root = Path(os.path.commonpath([file.path.parent for file in files]))
    places = {
        (part, name): f"{path}: class {name!r} of the {part} images"
        for part in parts
        for name in classes
    }
    notes = _notes(list(cells[0][1]), files, len(cells) - len(rows))
    return LabelledFiles(
        root, tuple(sorted(parts)), classes, places, Listing(files), False, tuple(notes)
    )


def _read_rows(path: Path, cells: list[tuple[int, Mapping[str, str]]]) -> Iterator[_Row]:
    """Yield the rows; raise an error for an empty cell, an unknown split or a missing file."""
    folder, missing = path.parent.absolute(), []
    for line, row in cells:
        place = f"{path}:{line}"
        for column in (_PATH, LABEL):
            if not row[column].strip():
                raise DataError(f"{place}: expected a {column}, got an empty cell")
        file = _located(folder, row[_PATH].strip())
        try:
            status = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            missing.append((place, file))
            continue
        except ValueError:  # a null byte
            raise DataError(f"{place}: expected a path, got a name that no file can have") from None
        if not stat.S_ISREG(status.st_mode):
            got = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise DataError(f"{place}: expected the path of an image, got {got} ({file})")
        yield _Row(
            line,
            ListedFile(
                file,
                _split(place, row),
                row[LABEL].strip(),
                status.st_size,
                status.st_mtime_ns,
                row.get(GROUP, "").strip(),
            ),
        )
    if missing:
        (place, file), count = missing[0], len(missing)
        more = f" (the first of {count:,} missing files)" if count > 1 else ""
        raise DataError(f"{place}: expected an image, got no such file: {file}{more}")


def _located(folder: Path, written: str) -> Path:
    """Return the absolute path of a file; backslashes separate folders if no file has them."""
    file = Path(os.path.normpath(folder / written))
    if "\\" in written and not file.exists():
        return Path(os.path.normpath(folder / written.replace("\\", "/")))
    return file


def _split(place: str, row: Mapping[str, str]) -> str:
    """Return the split of a row; "train" if the table has no such column."""
    if _SPLIT not in row:
        return "train"
    word = row[_SPLIT].strip()
    if word.lower() not in SPLIT_WORDS:
        got = repr(word) if word else "an empty cell"
        raise DataError(
            f"{place}: expected a split (train, validation or test), got {got}"
            + did_you_mean(word.lower(), SPLIT_WORDS)
        )
    return SPLIT_WORDS[word.lower()]


def _without_repeats(path: Path, rows: list[_Row]) -> list[_Row]:
    """Return the first row of each file; raise an error if a later one differs from it."""
    first: dict[Path, _Row] = {}
    for row in rows:
        before = first.setdefault(row.file.path, row)
        for what in ("class_name", "split", "group"):
            one, other = getattr(before.file, what), getattr(row.file, what)
            if one != other:
                word = "label" if what == "class_name" else what
                raise DataError(
                    f"{path}:{row.line}: expected the {word} {one!r} that line {before.line} "
                    f"gives to {row.file.path}, got {other!r}"
                )
    return list(first.values())


def _class_names(path: Path, rows: list[_Row]) -> tuple[str, ...]:
    """Return the labels of the training images; raise an error if another split has others."""
    classes = sorted({row.file.class_name for row in rows if row.file.split == "train"})
    if not classes:
        got = ", ".join(sorted({row.file.split for row in rows}))
        raise DataError(f"{path}: expected training images, got only the split {got}")
    if len(classes) == 1:
        raise DataError(f"{path}: expected at least two labels, got only {classes[0]!r}")
    known = set(classes)
    for row in rows:
        if row.file.class_name not in known:
            raise DataError(
                f"{path}:{row.line}: expected a label of the training images "
                f"({_listed(classes)}), got {row.file.class_name!r}"
                + did_you_mean(row.file.class_name, classes)
            )
    return tuple(classes)


def _require_whole_groups(path: Path, rows: list[_Row]) -> None:
    """Raise an error if a group has images in two splits."""
    first: dict[str, _Row] = {}
    for row in rows:
        before = first.setdefault(row.file.group, row) if row.file.group else row
        if before.file.split != row.file.split:
            raise DataError(
                f"{path}:{row.line}: expected group {row.file.group!r} in one split, got "
                f"{row.file.split} here and {before.file.split} in line {before.line}"
            )


def _notes(columns: list[str], files: list[ListedFile], repeats: int) -> list[str]:
    """Return lines on repeated rows, groups and unused columns."""
    lines = []
    if repeats:
        lines.append(f"rows that name an image again, counted once: {repeats:,}")
    if groups := {file.group for file in files if file.group}:
        line = f"groups of images, each in one split: {len(groups):,}"
        if single := sum(not file.group for file in files):
            line += f"; images without a group: {single:,}"
        lines.append(line)
    if unused := [repr(column) for column in columns if column not in _HEADERS]:
        lines.append(f"columns that are not used: {', '.join(unused)}")
    return lines


def _listed(words: list[str]) -> str:
    return ", ".join(words[:_NAMED]) + (", ..." if len(words) > _NAMED else "")
