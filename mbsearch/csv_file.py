"""The rows of a CSV file as spreadsheets of any language write it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path

from mbsearch.errors import DataError, did_you_mean

_DELIMITERS = (",", ";", "\t")
_MOST_LISTED = 10  # columns in a message


def plain_name(column: str) -> str:
    """Return a column's name in lower case, with underscores for spaces and hyphens."""
    return "_".join(column.casefold().replace("-", " ").replace("_", " ").split())


def named_columns(place: str, columns: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """Return column names, with variant spellings of known names replaced by the known name.

    A column that has the known name itself is preferred to its variants, which then stay as they
    are.

    Args:
        place: of the columns, for messages.
        columns: as they were read.
        known: name by plain spelling.

    Raises:
        DataError: several columns have the same known name.
    """
    plain = [plain_name(column) for column in columns]
    exact = {known[each] for each in plain if known.get(each) == each}
    named = [
        known[each] if each in known and (each == known[each] or known[each] not in exact) else name
        for name, each in zip(columns, plain, strict=True)
    ]
    for name in known.values():
        if named.count(name) > 1:
            variants = [c for c, n in zip(columns, named, strict=True) if n == name]
            found = "" if len(set(variants)) == 1 else f" ({' and '.join(map(repr, variants))})"
            raise DataError(f"{place}: expected the column {name!r} once, got it twice{found}")
    return named


def csv_rows(
    path: Path, text: str, known: Mapping[str, str], required: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield the line number and the cells by column of each row that is not empty.

    Args:
        path: of the file, for messages.
        text: its content. A first line ``sep=;``, as for Excel, is skipped.
        known: name by plain spelling, as `named_columns`.
        required: the known names without which a file is refused.

    Raises:
        DataError: the text is not CSV, lacks a required column, names a column twice, or has a row
            of another length.
    """
    lines = StringIO(text, newline="")
    first = 1
    if text[:4].lower() == "sep=":
        lines.readline()
        first = 2
    start = lines.tell()
    delimiter = _delimiter(f"{path}:{first}", lines.readline(), known, required)
    lines.seek(start)
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        columns = named_columns(f"{path}:{first}", next(rows), known)
        for cells in rows:
            line = rows.line_num + first - 1
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{path}:{line}: expected {len(columns)} cells as in the first row, got "
                    f"{len(cells)}"
                )
            yield line, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        line = rows.line_num + first - 1
        raise DataError(f"{path}:{line}: expected CSV, got an error: {error}") from None


def _delimiter(place: str, header: str, known: Mapping[str, str], required: Sequence[str]) -> str:
    """Return the delimiter that splits a header so that it has the required columns.

    Raises:
        DataError: it has none with any; the columns that were found are listed. Or it is not CSV.
    """
    found: list[str] = []
    for delimiter in _DELIMITERS:
        try:
            columns = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error as error:
            raise DataError(f"{place}: expected CSV, got an error: {error}") from None
        if {known.get(plain_name(column)) for column in columns}.issuperset(required):
            return delimiter
        found = max(found, columns, key=len)
    listed = ", ".join(repr(column) for column in islice(found, _MOST_LISTED))
    more = ", ..." if len(found) > _MOST_LISTED else ""
    names = " and ".join(map(repr, required))
    expected = f"a column {names}" if len(required) == 1 else f"the columns {names}"
    here = [known.get(plain_name(column)) for column in found]
    missing = next((name for name in required if name not in here), required[0])
    raise DataError(
        f"{place}: expected {expected}, columns separated by a comma, semicolon or tab; "
        f"got {listed or 'an empty line'}{more}{did_you_mean(missing, map(plain_name, found))}"
    )
