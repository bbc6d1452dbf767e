"""Sizes of images: one number for a square, height x width for another rectangle."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

MOST_PIXELS = 4096
"""The longest side of an image."""

_EXPECTED = (
    f"an integer from 1 to {MOST_PIXELS} for a square, "
    "or height x width of another rectangle, such as 96x160"
)
_OBLONG = re.compile("([1-9][0-9]{0,3})x([1-9][0-9]{0,3})")


@dataclass(frozen=True, slots=True)
class Size:
    """Height and width of an image in pixels, as text ``96`` (a square) or ``96x160``."""

    height: int
    width: int

    @classmethod
    def square(cls, side: int) -> Size:
        """Return the size of a square."""
        return cls(side, side)

    @classmethod
    def parse(cls, value: object) -> Size:
        """Return the size that an integer or a text describes; a size is returned unchanged.

        Raises:
            ValueError: there is none; the message says what is expected.
        """
        if isinstance(value, Size):
            return value
        if isinstance(value, str):
            found = _OBLONG.fullmatch(value)
            sides = (int(found[1]), int(found[2])) if found else (0, 0)
            if sides[0] != sides[1] and max(sides) <= MOST_PIXELS:
                return cls(*sides)
        elif isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_PIXELS:
            return cls.square(value)
        raise ValueError(_EXPECTED)

    @classmethod
    def read(cls, text: str) -> Size:
        """Return the size in a text such as an option's; raise `ValueError` as `parse`."""
        return cls.parse(int(text) if text.isdecimal() and len(text) < 9 else text)

    @property
    def plain(self) -> int | str:
        """The size in YAML, JSON and tables: an integer for a square, otherwise text."""
        return self.height if self.is_square else f"{self.height}x{self.width}"

    @property
    def is_square(self) -> bool:
        """Whether height and width are equal."""
        return self.height == self.width

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def side(self) -> float:
        """Geometric mean of height and width: the side of a square of equal area."""
        return math.sqrt(self.area)

    @property
    def shorter(self) -> int:
        """The shorter side."""
        return min(self.height, self.width)

    def scaled(self, share: float) -> Size:
        """Return the size with both sides multiplied by `share`, at least one pixel."""
        return Size(max(1, round(self.height * share)), max(1, round(self.width * share)))

    def with_shorter(self, side: int) -> Size:
        """Return the size of the same aspect ratio whose shorter side is `side`."""
        longer = round(side * max(self.height, self.width) / self.shorter)
        return Size(side, longer) if self.height <= self.width else Size(longer, side)

    def __str__(self) -> str:
        return str(self.plain)

    def __lt__(self, other: Size) -> bool:
        """Compare areas, then heights."""
        return (self.area, self.height) < (other.area, other.height)


Resolution = Annotated[
    Size,
    BeforeValidator(Size.parse, json_schema_input_type=int | str),
    PlainSerializer(lambda size: size.plain),
]
"""A size as a field of a pydantic model."""
