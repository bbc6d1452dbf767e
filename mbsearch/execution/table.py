"""Evaluator that looks up accuracies in a table, to compare samplers without training."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mbsearch.errors import DataError, EvaluationError, SpecError
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.execution.table_rows import (
    ACCURACY,
    CLASSES,
    FINGERPRINT,
    STATE,
    number_in,
    table_rows,
)
from mbsearch.space.architecture import MOST_CLASSES
from mbsearch.space.space import SearchSpace
from mbsearch.study.records import TABLE, Epoch, Evaluation, State

_MOST_LISTED = 20_000  # networks of a space, which takes seconds


@dataclass(frozen=True, slots=True)
class TableEvaluator:
    """Evaluator that looks up accuracies in a CSV or JSON file.

    The file has one row (CSV) or object (JSON list) a network: `accuracy` in [0, 1], and either its
    `fingerprint` or the value of every active choice under the choice's name. It may also be a JSON
    object from fingerprints to accuracies, or a study's `trials.csv`. Of equal networks the last
    row is used. Columns are separated by commas, semicolons or tabs; numbers may have a decimal
    comma.
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
    """Wrapper of a space as a cache key: equal if the fingerprints are equal."""

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
    by_choices = False
    for place, row in table_rows(path, [choice.name for choice in keyed.space.choices]):
        accuracy = _accuracy(place, row)
        if accuracy is not None:
            by_choices |= not row.get(FINGERPRINT)
            table[_fingerprint(place, row, keyed.space)] = accuracy
    if not table:
        raise DataError(f"{path}: expected at least one network with an accuracy, got none")
    if not by_choices:
        _require_a_network(path, table, keyed.space)
    return table


def _require_a_network(path: Path, table: Mapping[str, float], space: SearchSpace) -> None:
    """Raise DataError if no network of the space is in the table; a large space is not checked."""
    if space.size > _MOST_LISTED:
        return
    if not any(space.decode(params).fingerprint in table for params in space.enumerate_params()):
        example = space.decode(space.complete({}))
        raise DataError(
            f"{path}: expected networks of the space {space.name} for {example.num_classes} "
            f"classes (as {example.fingerprint}), got none of them in {len(table):,} rows"
        )


def table_classes(path: Path) -> int | None:
    """Return the number of classes that a table states; None if it states none.

    A study's `trials.csv` has it, as the number of classes is part of every fingerprint.

    Raises:
        DataError: the file is missing, is not CSV or JSON, or the number is invalid.
    """
    place, row = next(table_rows(path, ()), ("", {}))
    classes = row.get(CLASSES) or None
    if classes is None:
        return None
    number = number_in(classes)
    if number is None or not 1 <= number <= MOST_CLASSES or number != int(number):
        raise DataError(f"{place}: {CLASSES}: expected a number >= 1, got {classes!r}")
    return int(number)


def _accuracy(place: str, row: Mapping[str, Any]) -> float | None:
    """Return a row's accuracy; None if the trial was pruned or the cell is empty."""
    if row[ACCURACY] in ("", None) or row.get(STATE) == State.PRUNED:
        return None
    accuracy = number_in(row[ACCURACY])
    if accuracy is None or not 0 <= accuracy <= 1:
        raise DataError(f"{place}: {ACCURACY}: expected 0 to 1, got {row[ACCURACY]!r}")
    return accuracy


def _fingerprint(place: str, row: Mapping[str, Any], space: SearchSpace) -> str:
    if row.get(FINGERPRINT):
        fingerprint = str(row[FINGERPRINT]).strip().lower()
        if not re.fullmatch("[0-9a-f]{16}", fingerprint):
            raise DataError(
                f"{place}: {FINGERPRINT}: expected 16 hexadecimal digits, got {row[FINGERPRINT]!r}"
            )
        return fingerprint
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
    """Return the option that a CSV cell stands for, or the cell itself if there is none."""
    if not isinstance(cell, str):
        return cell
    text, number = cell.strip().lower(), number_in(cell)
    for value in values:
        if str(value).lower() == text or (number is not None and number_in(value) == number):
            return value
    return cell
