"""The rows of a table: CSV as spreadsheets of any language write it, or JSON."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

from mbsearch.errors import DataError, did_you_mean
from mbsearch.text_file import read_text

ACCURACY, FINGERPRINT, CLASSES, STATE = "accuracy", "fingerprint", "num_classes", "state"

Row = tuple[str, Mapping[str, Any]]
"""The place of a row, for messages, and its cells by column."""

_MOST_BYTES = 1_000_000_000
_DELIMITERS = (",", ";", "\t")
_LARGEST = 1e15  # number of a cell
_MOST_LISTED = 10  # columns in a message


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
    known = {_plain(name): name for name in (required, FINGERPRINT, CLASSES, STATE, *names)}
    if path.suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "["):
        return _json_rows(path, text, known, required)
    return _csv_rows(path, text, known, required)


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


def _plain(name: str) -> str:
    """Return a column's name in lower case, with underscores for spaces and hyphens."""
    return "_".join(name.casefold().replace("-", " ").replace("_", " ").split())


def _named(place: str, columns: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return column names, with variant spellings of known names replaced by the known name."""
    named = [known.get(_plain(column), column) for column in columns]
    for name in known.values():
        if named.count(name) > 1:
            raise DataError(f"{place}: expected the column {name!r} once, got it twice")
    return named


def _csv_rows(path: Path, text: str, known: Mapping[str, str], required: str) -> Iterator[Row]:
    lines = StringIO(text, newline="")
    first = 1
    if text[:4].lower() == "sep=":  # a line for Excel
        lines.readline()
        first = 2
    start = lines.tell()
    delimiter = _delimiter(f"{path}:{first}", lines.readline(), known, required)
    lines.seek(start)
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        columns = _named(f"{path}:{first}", next(rows), known)
        for cells in rows:
            place = f"{path}:{rows.line_num + first - 1}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{place}: expected {len(columns)} cells as in the first row, got {len(cells)}"
                )
            yield place, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        place = f"{path}:{rows.line_num + first - 1}"
        raise DataError(f"{place}: expected CSV, got an error: {error}") from None


def _delimiter(place: str, header: str, known: Mapping[str, str], required: str) -> str:
    """Return the delimiter that splits a header so that one column is the required one.

    Raises:
        DataError: it has none with any; the columns that were found are listed.
    """
    found: list[str] = []
    for delimiter in _DELIMITERS:
        columns = next(csv.reader([header], delimiter=delimiter), [])
        if required in (known.get(_plain(column)) for column in columns):
            return delimiter
        found = max(found, columns, key=len)
    listed = ", ".join(repr(column) for column in islice(found, _MOST_LISTED))
    more = ", ..." if len(found) > _MOST_LISTED else ""
    raise DataError(
        f"{place}: expected a column {required!r}, columns separated by a comma, semicolon or tab; "
        f"got {listed or 'an empty line'}{more}{did_you_mean(required, map(_plain, found))}"
    )


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
        columns = _named(place, list(row), known)
        if required not in columns:
            near = did_you_mean(required, map(_plain, columns))
            raise DataError(f"{place}: expected a value for {required!r}, got none{near}")
        yield place, dict(zip(columns, row.values(), strict=True))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} stands twice")
        found[key] = value
    return found
