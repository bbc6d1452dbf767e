"""Parquet files of images, in the layout of Hugging Face's datasets.

A file has a column of structs with the bytes and the path of an image, and a column of labels,
whose names are in the schema. The images are written to the cache folder once, a file each, and
then read as other files are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbsearch.csv_file import plain_name
from mbsearch.data.cache import cache_dir, cached_text
from mbsearch.data.inspection import image_extensions
from mbsearch.data.label_table import COLUMNS, GROUP, LABEL
from mbsearch.data.labelled_files import SPLIT_WORDS, LabelledFiles
from mbsearch.data.listing import ListedFile, Listing, left_out_reason
from mbsearch.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet

SUFFIX = ".parquet"
FOLDER = "parquet"
"""Folder of extracted images in the cache."""

_BATCH = 64  # rows read at once
_OTHER_FILE = "not a parquet file"


def is_parquet(place: Path) -> bool:
    """Return whether a place is a parquet file, or a folder of them without other folders."""
    if not place.is_dir():
        return place.suffix.lower() == SUFFIX
    paths = [path for path in place.iterdir() if left_out_reason(path.name) is None]
    return any(p.suffix.lower() == SUFFIX for p in paths) and not any(p.is_dir() for p in paths)


def list_parquet(place: Path) -> LabelledFiles:
    """Return the images of a parquet file, or of a folder of them, with classes and splits.

    Raises:
        DataError: pyarrow is missing, or a file is not one of labelled images; the message names
            file and row.
        OSError: a file cannot be read.
    """
    parts, others = _parts(place)
    paths = [path for each in parts.values() for path in each]
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    home = cache_dir() / FOLDER / digest.hexdigest()[:24]
    home.mkdir(parents=True, exist_ok=True)
    index = json.loads(cached_text(home / "index.json", lambda: _extract(parts, home)))
    listing = Listing()
    for part, name, class_name, group in index["files"]:
        path = home / part / name
        status = path.stat()
        listing.files.append(
            ListedFile(path, part, class_name, status.st_size, status.st_mtime_ns, group)
        )
    listing.leave_out(place.name, _OTHER_FILE, others)
    classes = tuple(index["classes"])
    places = {
        (part, name): f"{place}: class {name!r} of the {part} images"
        for part in parts
        for name in classes
    }
    return LabelledFiles(home, tuple(sorted(parts)), classes, places, listing, False)


def _parts(place: Path) -> tuple[dict[str, list[Path]], int]:
    """Return the files of each split by the first word of their names, and the number of others."""
    if not place.is_dir():
        return {"train": [place]}, 0
    files = [path for path in sorted(place.iterdir()) if left_out_reason(path.name) is None]
    paths = [path for path in files if path.suffix.lower() == SUFFIX]
    words = [path.stem.lower().split("-")[0].split(".")[0] for path in paths]
    others = len(files) - len(paths)
    if not any(word in SPLIT_WORDS for word in words):
        return {"train": paths}, others
    parts: dict[str, list[Path]] = {}
    for path, word in zip(paths, words, strict=True):
        if word not in SPLIT_WORDS:
            raise DataError(
                f"{path}: expected a name that begins with train, validation or test, as others in "
                "the folder do"
            )
        parts.setdefault(SPLIT_WORDS[word], []).append(path)
    if "train" not in parts:
        raise DataError(f"{place}: expected a file train-*.parquet, got only {paths[0].name}")
    return parts, others


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a file: images, labels and groups, with the names of the classes if known."""

    image: str
    label: str
    group: str | None
    names: tuple[str, ...] | None

    @staticmethod
    def of(path: Path, schema: pyarrow.Schema) -> _Columns:
        """Return the columns of a file's schema.

        Raises:
            DataError: there is no column of images or of labels, or more than one.
        """
        import pyarrow.types

        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = metadata.get("info", {}).get("features", {})
        images = [
            field.name
            for field in schema
            if pyarrow.types.is_struct(field.type)
            and {"bytes", "path"} <= {inner.name for inner in field.type}
        ]
        known = {field.name: COLUMNS.get(plain_name(field.name)) for field in schema}
        typed = [name for name, kind in features.items() if _is_class_label(kind)]
        labels = [name for name in typed if known.get(name) == LABEL] or typed
        labels = labels or [name for name, role in known.items() if role == LABEL]
        for found, what in ((images, "image {bytes, path}"), (labels, "label")):
            if len(found) != 1:
                got = ", ".join(map(repr, found or known)) or "none"
                raise DataError(f"{path}: expected one column {what}, got {got}")
        group = next((name for name, role in known.items() if role == GROUP), None)
        names = features.get(labels[0], {}).get("names")
        return _Columns(images[0], labels[0], group, None if names is None else tuple(names))


def _is_class_label(feature: object) -> bool:
    """Return whether a feature of the metadata is one; a list of features is a list there."""
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel"


def _extract(parts: Mapping[str, Sequence[Path]], home: Path) -> str:
    """Write each image to a file below `home`, and return the index of all files as JSON."""
    names: tuple[str, ...] | None = None
    files: list[tuple[str, str, str, str]] = []
    for part, paths in parts.items():
        (home / part).mkdir(exist_ok=True)
        number = 0
        for path in paths:
            source = _opened(path)
            columns = _Columns.of(path, source.schema_arrow)
            if files and columns.names != names:
                raise DataError(f"{path}: expected the class names of the other files, got others")
            names = columns.names
            for row, cells in enumerate(_rows(path, source, columns)):
                image, label, group = cells
                name = f"{number:07}{_extension(image)}"
                content = image.get("bytes") if image else None
                if not content:
                    raise DataError(f"{path}: row {row}: expected the bytes of an image, got none")
                (home / part / name).write_bytes(content)
                class_name = _class_name(path, row, label, names)
                files.append((part, name, class_name, "" if group is None else str(group)))
                number += 1
    used = {class_name for _, _, class_name, _ in files}
    classes = sorted(used) if names is None else [name for name in names if name in used]
    if len(classes) < 2:
        got = ", ".join(map(repr, classes)) or "none"
        raise DataError(f"{parts['train'][0]}: expected at least two labels, got {got}")
    return json.dumps({"classes": classes, "files": files})


def _opened(path: Path) -> pyarrow.parquet.ParquetFile:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{path}: reading parquet files needs pyarrow; run: pip install 'mbsearch[parquet]'"
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: expected a parquet file, got {reason}") from None


def _rows(
    path: Path, source: pyarrow.parquet.ParquetFile, columns: _Columns
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield image, label and group of each row."""
    wanted = [columns.image, columns.label, *([columns.group] if columns.group else [])]
    try:
        for batch in source.iter_batches(_BATCH, columns=wanted):
            for cells in batch.to_pylist():
                group = cells[columns.group] if columns.group else None
                yield cells[columns.image], cells[columns.label], group
    except (OSError, ValueError) as error:  # of pyarrow, for damaged pages; they name no file
        raise DataError(f"{path}: the parquet file is damaged ({error})") from None


def _extension(image: Mapping[str, Any] | None) -> str:
    suffix = Path(str((image or {}).get("path") or "")).suffix.lower()
    return suffix if suffix in image_extensions() else ".img"


def _class_name(path: Path, row: int, label: object, names: tuple[str, ...] | None) -> str:
    if names is None:
        if label is None or not str(label).strip():
            raise DataError(f"{path}: row {row}: expected a label, got none")
        return str(label).strip()
    if not isinstance(label, int) or not 0 <= label < len(names):
        raise DataError(
            f"{path}: row {row}: expected a label from 0 to {len(names) - 1}, got {label}; a split "
            "without labels is left out by moving its files elsewhere"
        )
    return names[label]
