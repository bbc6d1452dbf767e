"""Ranges of numbers in YAML, such as ``{range: [0.1, 1.4], step: 0.01}``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mbsearch.errors import did_you_mean
from mbsearch.space.yaml_source import Document, NodePath, format_value

MOST_VALUES = 1000
DEFAULT_POINTS = 20
_DIGITS = 3  # significant digits of a number on a logarithmic scale
_KEYS = ("range", "step", "log", "points")

Number = int | float


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, spaced evenly by a `step` or logarithmically.

    With a `step` they are `low`, `low + step`, ..., at most `high`: exact decimals, or integers if
    `low` and `step` are. Without a step they are `points` numbers at equal ratios. Between the ends
    these are rounded to three significant digits, or to integers if both ends are; equal numbers
    are listed once.
    """

    low: Number
    high: Number
    step: Number | None
    points: int = DEFAULT_POINTS

    @property
    def values(self) -> tuple[Number, ...]:
        """The numbers of the range, in ascending order."""
        if self.step is None:
            return self._log_values()
        first, step = Fraction(str(self.low)), Fraction(str(self.step))
        whole = isinstance(self.low, int) and isinstance(self.step, int)
        number = int if whole else float
        return tuple(number(first + i * step) for i in range(self.steps + 1))

    @property
    def steps(self) -> int:
        """Number of steps from the first number to the last."""
        step = Fraction(str(self.step))
        return int((Fraction(str(self.high)) - Fraction(str(self.low))) // step)

    def _log_values(self) -> tuple[Number, ...]:
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        inner = []
        for i in range(1, self.points - 1):
            value = self.low * (self.high / self.low) ** (i / (self.points - 1))
            inner.append(round(value) if whole else float(f"{value:.{_DIGITS}g}"))
        ends = (self.low, self.high) if whole else (float(self.low), float(self.high))
        return tuple(sorted({ends[0], *inner, ends[1]}))

    def to_dict(self) -> dict[str, Any]:
        """Return the range as a mapping for a YAML file."""
        spacing = {"log": True, "points": self.points} if self.step is None else {"step": self.step}
        return {"range": [self.low, self.high], **spacing}


def parse_range(document: Document, data: Mapping[str, Any], path: NodePath) -> Range:
    """Return the `Range` that a mapping with the key ``range`` describes.

    Raises:
        SpecError: ends that are not two ascending numbers, a step that is not a positive number, a
            logarithmic scale from 0, more than 1,000 values, or an unknown key.
    """
    for key in data:
        if key not in _KEYS:
            message = f"unknown key of a range, expected one of {', '.join(_KEYS)}"
            raise document.error((*path, key), message + did_you_mean(key, _KEYS))
    low, high = _ends(document, data["range"], (*path, "range"))
    log = data.get("log", False)
    if not isinstance(log, bool):
        raise document.error((*path, "log"), f"expected true or false, got {format_value(log)}")
    if log:
        return _log_range(document, data, path, low, high)
    if "points" in data:
        raise document.error((*path, "points"), "expected only with log: true; use step")
    if "step" not in data:
        raise document.error(path, "expected a step or log: true beside the range")
    step = _number(document, data["step"], (*path, "step"))
    if step <= 0:
        raise document.error((*path, "step"), f"expected a number > 0, got {format_value(step)}")
    found = Range(low, high, step)
    if found.steps >= MOST_VALUES:
        raise document.error(
            path,
            f"expected at most {MOST_VALUES:,} values, got {found.steps + 1:,}: use a larger step",
        )
    return found


def _log_range(
    document: Document, data: Mapping[str, Any], path: NodePath, low: Number, high: Number
) -> Range:
    if "step" in data:
        raise document.error((*path, "step"), "expected none with log: true; use points")
    if low <= 0:
        raise document.error(
            (*path, "range", 0), f"expected a number > 0 with log: true, got {format_value(low)}"
        )
    points = data.get("points", DEFAULT_POINTS)
    if isinstance(points, bool) or not isinstance(points, int) or not 2 <= points <= MOST_VALUES:
        raise document.error(
            (*path, "points"),
            f"expected an integer from 2 to {MOST_VALUES:,}, got {format_value(points)}",
        )
    return Range(low, high, None, points)


def _ends(document: Document, given: object, path: NodePath) -> tuple[Number, Number]:
    if not isinstance(given, list) or len(given) != 2:
        got = f"{len(given)} items" if isinstance(given, list) and given else format_value(given)
        raise document.error(path, f"expected two numbers [low, high], got {got}")
    low, high = (_number(document, end, (*path, i)) for i, end in enumerate(given))
    if low > high:
        raise document.error(path, f"expected low <= high, got {low} > {high}")
    return low, high


def _number(document: Document, given: object, path: NodePath) -> Number:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise document.error(path, f"expected a finite number, got {format_value(given)}")
    return given
