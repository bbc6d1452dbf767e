"""Evaluator that looks up accuracies in a table, to compare samplers without training."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mbsearch.errors import DataError, EvaluationError, SpecError
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.space.space import SearchSpace
from mbsearch.study.records import TABLE, Epoch, Evaluation, State

ACCURACY, FINGERPRINT, CLASSES = "accuracy", "fingerprint", "num_classes"


@dataclass(frozen=True, slots=True)
class TableEvaluator:
    """Evaluator that looks up accuracies in a CSV or JSON file.

    The file has one row (CSV) or object (JSON list) a network: `accuracy` in [0, 1], and either its
    `fingerprint` or the value of every active choice under the choice's name. It may also be a JSON
    object from fingerprints to accuracies, or a study's `trials.csv`. Of equal networks the last
    row is used.
    """

    path: Path
    space: SearchSpace

    def evaluate(self, task: Task) -> Outcome:
        """Return the accuracy of one network from the table.

        Raises:
            DataError: the file cannot be read.
            EvaluationError: the network is not in the table.
        """
        fingerprint = task.architecture.fingerprint
        accuracy = read_table(self.path, self.space).get(fingerprint)
        if accuracy is None:
            raise EvaluationError(
                f"{self.path.name}: the network {fingerprint} is not in the table"
            )
        loss = -math.log(max(accuracy, 1e-6))
        return Outcome(
            Evaluation(
                accuracy=accuracy,
                validation_loss=loss,
                seconds=0.0,
                seed=task.seed,
                pixels=task.architecture.resolution,
                curve=(Epoch(loss, loss, accuracy, 0.0),),
                evaluator=TABLE,
                recipe={"table": str(self.path)},
                device="none",
            )
        )


def read_table(path: Path, space: SearchSpace) -> Mapping[str, float]:
    """Return the accuracies in a table, by network fingerprint.

    Raises:
        DataError: the file is missing, is not CSV or JSON, or has an invalid row, which is named.
    """
    return _read_table(path, path.stat().st_mtime if path.exists() else 0.0, _Keyed(space))


class _Keyed:
    """A space as a cache key, equal to spaces with the same fingerprint."""

    def __init__(self, space: SearchSpace) -> None:
        self.space, self._key = space, space.fingerprint

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other._key == self._key


@lru_cache(maxsize=4)
def _read_table(path: Path, _modified: float, keyed: _Keyed) -> Mapping[str, float]:
    """Read a table, cached by path, modification time and space."""
    table: dict[str, float] = {}
    for where, row in _rows(path):
        place = f"{path}:{where}"
        accuracy = _accuracy(place, row)
        if accuracy is not None:
            table[_fingerprint(place, row, keyed.space)] = accuracy
    if not table:
        raise DataError(f"{path}: expected at least one network with an accuracy, got none")
    return table


def table_classes(path: Path) -> int | None:
    """Return the number of classes in a table, or None if it has no such column.

    A study's `trials.csv` has it, as the number of classes is part of every fingerprint.

    Raises:
        DataError: the file is missing, is not CSV or JSON, or the number is invalid.
    """
    where, row = next(iter(_rows(path)), ("", {}))
    classes = row.get(CLASSES) or None
    if classes is None:
        return None
    if not str(classes).isdecimal() or int(classes) < 1:
        raise DataError(f"{path}:{where}: {CLASSES}: expected a number >= 1, got {classes!r}")
    return int(classes)


def _rows(path: Path) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Return a file's rows, each with its position for messages."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Excel writes a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise DataError(f"{path}: expected a table (CSV or JSON), got an error: {reason}") from None
    return _json_rows(path, text) if path.suffix == ".json" else _csv_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    rows = csv.DictReader(text.splitlines())
    try:
        for number, row in enumerate(rows, start=2):
            yield str(number), row
    except csv.Error as error:
        raise DataError(
            f"{path}:{rows.line_num + 1}: expected CSV, got an error: {error}"
        ) from None


def _json_rows(path: Path, text: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got an error: {error}") from None
    if isinstance(data, dict):
        data = [{FINGERPRINT: key, ACCURACY: value} for key, value in data.items()]
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise DataError(f"{path}: expected a list of objects, or one object, got something else")
    return ((f"row {number}", row) for number, row in enumerate(data, start=1))


def _accuracy(place: str, row: Mapping[str, Any]) -> float | None:
    """Return a row's accuracy; None for pruned trials and those without one."""
    if ACCURACY not in row:
        raise DataError(f"{place}: expected a value for {ACCURACY!r}, got none")
    if row[ACCURACY] in ("", None) or row.get("state") == State.PRUNED:
        return None
    try:
        accuracy = float(row[ACCURACY])
    except (TypeError, ValueError):
        accuracy = math.nan
    if not 0 <= accuracy <= 1:
        raise DataError(f"{place}: {ACCURACY}: expected 0 to 1, got {row[ACCURACY]!r}")
    return accuracy


def _fingerprint(place: str, row: Mapping[str, Any], space: SearchSpace) -> str:
    if row.get(FINGERPRINT):
        return str(row[FINGERPRINT])
    params = {
        choice.name: _option(choice.values, row[choice.name])
        for choice in space.choices
        if row.get(choice.name) not in (None, "")
    }
    try:
        return space.decode(params).fingerprint
    except SpecError as error:
        raise DataError(f"{place}: expected a {FINGERPRINT}, or every choice: {error}") from None


def _option(values: tuple[Any, ...], cell: Any) -> Any:
    """Return the option whose text equals a cell of a CSV file, or the cell if none does."""
    if not isinstance(cell, str):
        return cell
    return next((value for value in values if str(value).lower() == cell.lower()), cell)
