"""Units of costs: parse and format quantities, and list round values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_KIB, _MIB = 2**10, 2**20
# The keys are in lower case: 600m is 600M, as no cost has thousandths; the micro sign µ is μ.
_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_DECIMAL = {f"{prefix}b": factor for prefix, factor in _COUNTS.items()}
_BINARY = {f"{k}i{b}": 1024**i for i, k in enumerate("kmg", start=1) for b in ("", "b")}
BYTE_FACTORS = _COUNTS | _DECIMAL | _BINARY
_MICROSECONDS = {"ns": 1e-3, "us": 1, "μs": 1, "ms": 10**3, "s": 10**6}
_NUMBER = r"(?:(?:0|[1-9][0-9]*(?:_[0-9]+)*)(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?"
_LARGEST = 10**15


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of measurement, with functions that convert from and to text.

    Attributes:
        format: prints a value with its unit, rounded.
        parse: reads a value as people write it; raises a ValueError that states what is expected.
        parsed_type: what `parse` accepts, for the JSON Schema.
        dump: the value in a YAML file that `parse` reads back.
        round_values: round values from the smallest to the largest.
        slider_label: name of the label function of the dashboard's sliders (client.js).
    """

    format: Callable[[float], str]
    parse: Callable[[object], int]
    parsed_type: Any
    dump: Callable[[int], int | str]
    round_values: tuple[float, ...]
    slider_label: str

    def option(self, value: int) -> str:
        """Return the shortest text that `parse` reads as the value: ``20M``, ``5ms``."""
        short = self.format(value).replace(" ", "")
        try:
            return short if self.parse(short) == value else str(self.dump(value))
        except ValueError:
            return str(self.dump(value))


def scaled(text: object, factors: Mapping[str, float]) -> float | None:
    """Return a number times the factor of its unit; None if `text` is invalid or too large.

    Args:
        text: as a person writes it: ``600M``, ``1.5 MiB``, ``1e-3s``; or a number.
        factors: by units in lower case; the key "" is a number without a unit.
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        return None
    match = re.fullmatch(rf"\+?({_NUMBER})\s*([^\W\d_]*)", str(text).strip().casefold())
    if match is None or match[2] not in factors:
        return None
    value = float(match[1]) * factors[match[2]]
    return value if value <= _LARGEST else None


def parse_quantity(text: object) -> int:
    """Parse a count: ``600M``, ``2.5m``, ``512k``, ``1e8`` or a plain number.

    Raises:
        ValueError: anything else; the message states what is expected.
    """
    return _positive(
        text, _COUNTS, "a positive number, perhaps with k, M or G (600M, 2.5M, 512k, 6e8)"
    )


def parse_bytes(text: object) -> int:
    """Parse a size in bytes: ``500k``, ``500kB``, ``1.5MiB`` or a plain number.

    Raises:
        ValueError: anything else; the message states what is expected.
    """
    expected = "a positive number of bytes, perhaps with kB, MB, GB, KiB, MiB or GiB (500k, 1.5MiB)"
    return _positive(text, BYTE_FACTORS, expected)


def parse_duration(text: object) -> int:
    """Parse a time into microseconds: ``5ms``, ``800us``, ``1e-3s``.

    Raises:
        ValueError: anything else; the message states what is expected.
    """
    return _positive(text, _MICROSECONDS, "a time with its unit, ns, us, ms or s (5ms, 800us)")


def _positive(text: object, factors: Mapping[str, float], expected: str) -> int:
    value = round(scaled(text, factors) or 0)
    if value > 0:
        return value
    raise ValueError(expected)


def millions(count: float) -> str:
    """Return a count in millions as text: ``300.8 M``."""
    return f"{_rounded(round(count) / 1e6, 4)} M"


def thousands(count: float) -> str:
    """Return a count as text in thousands, or in millions from one million on: ``500 k``."""
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


_DECIMAL_VALUES = tuple(m * 10.0**exponent for exponent in range(12) for m in (1, 2, 5))
_BINARY_VALUES = tuple(2.0**exponent for exponent in range(8, 40))
_COUNT_TYPE = int | float | str
MILLIONS = Unit(millions, parse_quantity, _COUNT_TYPE, int, _DECIMAL_VALUES, "count")
THOUSANDS = Unit(thousands, parse_quantity, _COUNT_TYPE, int, _DECIMAL_VALUES, "count")
BYTES = Unit(mebibytes, parse_bytes, _COUNT_TYPE, int, _BINARY_VALUES, "bytes")
MICROSECONDS = Unit(
    milliseconds, parse_duration, str, "{}us".format, _DECIMAL_VALUES, "milliseconds"
)
