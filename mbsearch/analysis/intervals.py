"""Accuracies, and differences between accuracies, with 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""
TIED_WITHIN = 0.01
"""Networks are statistically tied where the whole interval of their difference lies within this."""


LEAST_IMAGES = 30
"""With fewer images no difference is significant: the best of many networks is best by chance."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An accuracy, or a difference between two, with its 95 % interval.

    `images` is the number of images that it was measured on; None without images, as in a table.
    """

    mean: float
    low: float
    high: float
    images: int | None = None

    @property
    def exact(self) -> bool:
        """Whether the value has no noise, for example because it comes from a table."""
        return self.low == self.high

    @property
    def tied(self) -> bool:
        """Whether the whole interval lies within `TIED_WITHIN` of 0."""
        return self.low >= -TIED_WITHIN and self.high <= TIED_WITHIN

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0 and there are enough images."""
        return not too_few(self.images) and (self.low > 0 or self.high < 0)

    @property
    def probability(self) -> float:
        """Probability that the difference is above 0, by a normal distribution."""
        if self.exact:
            return 1.0 if self.mean > 0 else 0.0
        return 1 - NormalDist(self.mean, (self.high - self.low) / (2 * Z_95)).cdf(0)

    def bounds(self) -> str:
        """Return the bounds of an accuracy as text: ``0.721 to 0.778``."""
        return f"{self.low:.3f} to {self.high:.3f}"

    def in_points(self) -> str:
        """Return the bounds of a difference as text, in percentage points.

        ``95 % interval +0.4 to +4.6, significant``.
        """
        significance = "significant" if self.significant else "not significant"
        if too_few(self.images):
            significance += f": {self.images} images are too few"
        if self.tied:
            significance = f"statistically tied within {tie_margin()}"
        return f"95 % interval {points(self.low)} to {points(self.high)}, {significance}"


def too_few(images: int | None) -> bool:
    """Whether a number of images is below `LEAST_IMAGES`."""
    return images is not None and images < LEAST_IMAGES


def independent_difference(
    mean: float, first: float, second: float, images: int | None = None
) -> Interval:
    """Return a difference of independent accuracies with its 95 % interval."""
    half = Z_95 * math.hypot(first, second)
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half), images)


def points(difference: float) -> str:
    """Return a difference of accuracies as text in percentage points, with its sign."""
    return f"{100 * difference + 0.0:+.1f}"


def tie_margin() -> str:
    """Return `TIED_WITHIN` as text: ``1 point``."""
    return f"{100 * TIED_WITHIN:g} point"
