"""The rows of a table: CSV as spreadsheets of any language write it, or JSON."""

from __future__ import annotations

import json
import re
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
_LARGEST = 1e15  # number of a cell


def table_rows(path: Path, names: Collection[str], required: str = ACCURACY) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        path: a file with one row (CSV) or object (JSON list) a network, or a JSON object from
            fingerprints to accuracies.
        names: further columns of known names, as the choices of a space.
        required: column that every row has.

    Raises:
        DataError: the file cannot be read, is not CSV or JSON, lacks the required column, names a
            column or a fingerprint twice, or has a row of another length.
    """
    text = read_text(path, "a table (CSV or JSON)", DataError, _MOST_BYTES)
    known = {plain_name(name): name for name in (required, FINGERPRINT, CLASSES, STATE, *names)}
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        return _json_rows(path, text, known, required)
    rows = csv_rows(path, text, known, (required,))
    return ((f"{path}:{line}", cells) for line, cells in rows)


def number_in(cell: object) -> float | None:
    """Return a cell as a number, also with a decimal comma; None if it is not a number."""
    if isinstance(cell, str):
        number = re.fullmatch(
            r"[-+]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][-+]?[0-9]+)?", cell.strip()
        )
        return float(number[0].replace(",", ".")) if number else None
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not abs(cell) < _LARGEST:
        return None
    return float(cell)


def _json_rows(path: Path, text: str, known: Mapping[str, str], required: str) -> Iterator[Row]:
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
        if required not in columns:
            near = did_you_mean(required, map(plain_name, columns))
            raise DataError(f"{place}: expected a value for {required!r}, got none{near}")
        yield place, dict(zip(columns, row.values(), strict=True))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice")
        found[key] = value
    return found
