"""Units of costs: parse and format quantities, and list round values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_KIB, _MIB = 2**10, 2**20
_SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_MICROSECONDS = {"us": 1, "µs": 1, "ms": 10**3, "s": 10**6}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measurement, with functions that convert from and to text.

    Attributes:
        format: prints a value with its unit, rounded.
        parse: reads a value as people write it; raises a ValueError that states what is expected.
        parsed_type: what `parse` accepts, for the JSON Schema.
        dump: the value in a YAML file that `parse` reads back.
        round_values: round values from the smallest to the largest; finer ones on request.
        slider_label: name of the label function of the dashboard's sliders (client.js).
    """

    format: Callable[[float], str]
    parse: Callable[[object], int]
    parsed_type: Any
    dump: Callable[[int], int | str]
    round_values: Callable[[bool], list[float]]
    slider_label: str


def parse_quantity(text: object) -> int:
    """Return the integer for a count such as ``600M``, ``2.5M``, ``512k`` or ``1e8``.

    Raises:
        ValueError: anything else; the message states what is expected.
    """
    if not isinstance(text, bool) and isinstance(text, int | float | str):
        match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([kKMG]?)", str(text).strip())
        if match:
            try:
                value = round(float(match[1]) * _SUFFIXES[match[2]])
            except (ValueError, OverflowError):
                value = 0
            if value > 0:
                return value
    raise ValueError("a positive number, perhaps with k, M or G (600M)")


def parse_duration(text: object) -> int:
    """Return the microseconds for a time such as ``5ms``, ``800us`` or ``0.01s``.

    Raises:
        ValueError: anything else; the message states what is expected.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s)", str(text).strip())
    value = round(float(match[1]) * _MICROSECONDS[match[2]]) if match else 0
    if value > 0:
        return value
    raise ValueError("a time with its unit, us, ms or s (5ms)")


def millions(count: float) -> str:
    """Return a count in millions as text: ``300.8 M``."""
    return f"{_rounded(round(count) / 1e6, 4)} M"


def thousands(count: float) -> str:
    """Return a count as text in thousands, or from a million in millions: ``500 k``."""
    return f"{_rounded(count / 1e3, 4)} k" if count < 1e6 else millions(count)


def mebibytes(count: float) -> str:
    """Return a number of bytes as text in KiB or MiB: ``1.5 MiB``."""
    small = count < _MIB
    return f"{_rounded(count / (_KIB if small else _MIB), 3)} {'KiB' if small else 'MiB'}"


def milliseconds(time: float) -> str:
    """Return a time in microseconds as text in milliseconds: ``4.2 ms``."""
    return f"{_rounded(time / 1e3, 3)} ms"


def _rounded(value: float, digits: int) -> str:
    """Return a number as text with this many significant digits, without an exponent."""
    text = f"{value:,.{digits}g}"
    return f"{value:,.0f}" if "e+" in text else text


def _decimal_values(fine: bool) -> list[float]:
    """Return 1, 2, 5, 10, 20, 50, ... below 1e12; if `fine`, 1, 2, ..., 9, 10, 20, ..."""
    mantissas = range(1, 10) if fine else (1, 2, 5)
    return [mantissa * 10.0**exponent for exponent in range(12) for mantissa in mantissas]


def _binary_values(fine: bool) -> list[float]:
    """Return powers of two from 256; if `fine`, also the quarters between them."""
    quarters = (4, 5, 6, 7) if fine else (4,)
    return [quarter * 2.0**exponent for exponent in range(6, 38) for quarter in quarters]


_COUNT_TYPE = int | float | str
MILLIONS = Unit(millions, parse_quantity, _COUNT_TYPE, int, _decimal_values, "count")
THOUSANDS = Unit(thousands, parse_quantity, _COUNT_TYPE, int, _decimal_values, "count")
BYTES = Unit(mebibytes, parse_quantity, _COUNT_TYPE, int, _binary_values, "bytes")
MICROSECONDS = Unit(
    milliseconds, parse_duration, str, "{}us".format, _decimal_values, "milliseconds"
)
