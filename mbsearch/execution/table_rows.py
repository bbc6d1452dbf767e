"""The rows of a table: CSV as spreadsheets of any language write it, or JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from mbsearch.csv_file import csv_rows, named_columns, plain_name
from mbsearch.errors import DataError, did_you_mean
from mbsearch.text_file import read_text

ACCURACY, FINGERPRINT, CLASSES, STATE = "accuracy", "fingerprint", "num_classes", "state"

Row = tuple[str, Mapping[str, Any]]
"""The place of a row, for messages, and its cells by column."""

_MOST_BYTES = 1_000_000_000


def table_rows(path: Path, names: Collection[str]) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        path: a file with one row (CSV) or object (JSON list) a network, or a JSON object from
            fingerprints to accuracies.
        names: the choices that may be columns, beside those of this module.

    Raises:
        DataError: the file cannot be read, is not CSV or JSON, lacks the accuracies, names a column
            or a fingerprint twice, or has a row of another length.
    """
    text = read_text(path, "a table (CSV or JSON)", DataError, _MOST_BYTES)
    known = {plain_name(name): name for name in (ACCURACY, FINGERPRINT, CLASSES, STATE, *names)}
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        return _json_rows(path, text, known)
    rows = csv_rows(path, text, known, (ACCURACY,))
    return ((f"{path}:{line}", cells) for line, cells in rows)


def _json_rows(path: Path, text: str, known: Mapping[str, str]) -> Iterator[Row]:
    try:
        data = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise DataError(f"{path}: expected JSON, got one nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got an error: {error}") from None
    if isinstance(data, dict):
        data = [{FINGERPRINT: key, ACCURACY: value} for key, value in data.items()]
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise DataError(f"{path}: expected a list of objects, or one object, got something else")
    for number, row in enumerate(data, start=1):
        place = f"{path}:row {number}"
        columns = named_columns(place, list(row), known)
        if ACCURACY not in columns:
            near = did_you_mean(ACCURACY, map(plain_name, columns))
            raise DataError(f"{place}: expected a value for {ACCURACY!r}, got none{near}")
        yield place, dict(zip(columns, row.values(), strict=True))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice")
        found[key] = value
    return found
