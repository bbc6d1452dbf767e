"""Passes over values that lie in a core's cache, of which the kernels of chains are made.

Values are float32, in the order of memory: channels next to each other, then pixels. How a map is
read stands in its `terms` (6, C): mean and inverse deviation of the batch, scale and shift that
normalise it, and the least and the most that the activation lets through. A map without terms
(6, 0) is read as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import uintp

from mbsearch.accel.kernels.jit import Moments, Values, inner
from mbsearch.accel.kernels.steps import batch_terms

Settings = tuple[float, float, float, float]
"""Epsilon and momentum of a batch norm, the least and the most that the activation lets through."""

MEAN, INVERSE, SCALE, SHIFT, LEAST, MOST = range(6)
"""Rows of a map's terms."""
CACHED = 48 * 1024
"""Values that a core keeps near."""
# Pixels of few channels are seen as rows of several, long enough to make up for a loop's start.
_ROW = 192

# From a row to the next of an array of which a loop reads several rows. As it is the same for all
# arrays, one register is enough for where they are. It is no multiple of a page, for the processor
# takes addresses for the same whose last twelve bits are.
PITCH = 16 * 1024 + 336
WIDEST = 16 * 1024
"""Channels of the widest map that the kernels know."""

# With signed ones LLVM must allow for indices from the end, and takes no vectors.
unsigned: Any = uintp


@inner
def row_width(channels: int) -> int:
    """Values of so many whole pixels that they make a row."""
    width = channels
    while 0 < width < _ROW:
        width += channels
    return width


@inner
def widened(terms: Values) -> Values:
    """Terms, or any rows of a value a channel, for a whole row of pixels."""
    rows, channels = terms.shape
    wide = np.empty((rows, row_width(channels)), np.float32)
    for row in range(rows):
        for t in range(wide.shape[1]):
            wide[row, t] = terms[row, t % channels]
    return wide


@inner
def drain(part: Values, total: Any) -> None:
    """Add a row up by channels, and empty it."""
    channels = len(total)
    for start in range(0, len(part), channels):
        for c in range(channels):
            total[c] += part[unsigned(start + c)]
    part[:] = 0


@inner
def copy_values(x: Values, first: int, count: int, y: Values, at: int) -> None:
    """Write some values of x to y."""
    first, count, at = unsigned(first), unsigned(count), unsigned(at)
    for t in range(count):
        y[at + t] = x[first + t]


@inner
def see(x: Values, first: int, count: int, terms: Values, y: Values, at: int) -> None:
    """Write to y what a layer sees of some values of x."""
    if terms.shape[1] == 0:
        copy_values(x, first, count, y, at)
        return
    first, count, at = unsigned(first), unsigned(count), unsigned(at)
    width, start = unsigned(terms.shape[1]), unsigned(0)
    least, most = terms[LEAST, 0], terms[MOST, 0]
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            z = x[first + start + t] * terms[SCALE, t] + terms[SHIFT, t]
            z = least if z < least else z
            y[at + start + t] = most if z > most else z
        start = unsigned(start + width)


@inner
def add_moments(
    z: Values, first: int, count: int, origin: Values, part: Values, square: Values
) -> None:
    """Add up the distances of some values from an origin, and their squares."""
    first, count = unsigned(first), unsigned(count)
    width, start = unsigned(len(origin)), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            distance = z[first + start + t] - origin[t]
            part[t] += distance
            square[t] += distance * distance
        start = unsigned(start + width)


@inner
def through_norm(
    grad: Values, z: Values, first: int, count: int, back: Values, out: Values, at: int
) -> None:
    """Write the gradient of z from that of what its batch norm made of it; see `norm_back`."""
    first, count, at = unsigned(first), unsigned(count), unsigned(at)
    width, start = unsigned(back.shape[1]), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            of = first + start + t
            by_moments = back[2, t] * (z[of] - back[0, t]) + back[3, t]
            out[at + start + t] = back[1, t] * grad[of] + by_moments
        start = unsigned(start + width)


@inner
def let_through(
    grad: Values,
    first: int,
    count: int,
    y: Values,
    at: int,
    x: Values,
    terms: Values,
    part: Values,
    product: Values,
) -> None:
    """Leave of a gradient what the activation y of x let through, and add up `norm_sums`."""
    first, count, at = unsigned(first), unsigned(count), unsigned(at)
    width, start = unsigned(terms.shape[1]), unsigned(0)
    least, most = terms[LEAST, 0], terms[MOST, 0]
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            of = first + start + t
            seen = y[at + start + t]
            passed = np.float32(0) if (seen <= least) | (seen >= most) else grad[of]
            grad[of] = passed
            part[t] += passed
            product[t] += passed * (x[of] - terms[MEAN, t])
        start = unsigned(start + width)


@inner
def add_products(
    grad: Values, first: int, count: int, x: Values, terms: Values, part: Values, product: Values
) -> None:
    """Add up some of a gradient, and its products with the distance of x from its mean."""
    first, count = unsigned(first), unsigned(count)
    width, start = unsigned(terms.shape[1]), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            of = first + start + t
            part[t] += grad[of]
            product[t] += grad[of] * (x[of] - terms[MEAN, t])
        start = unsigned(start + width)


@inner
def normed(
    moments: Moments,
    origin: Values,
    pixels: int,
    scale: Values,
    shift: Values,
    running: tuple[Values, Values],
    settings: Settings,
    terms: Values,
) -> None:
    """Fill the terms of a map from the distances of its values from an origin, and their squares.

    The running mean and variance of its batch norm take their step.
    """
    epsilon, momentum, least, most = settings
    of_batch = (moments[0], moments[1], origin, pixels)
    batch_terms(of_batch, scale, shift, epsilon, momentum, running[0], running[1], terms)
    for c in range(terms.shape[1]):
        terms[LEAST, c], terms[MOST, c] = least, most


@inner
def norm_back(terms: Values, sums: Moments, pixels: int, grads: Values) -> Values:
    """What takes the gradient of a normalised map back to that of the map z, as wide as a row.

    With dy the gradient, n = (z - mean) * inverse, and the sums of `norm_sums`: the bias has the
    sum of dy, the weight the sum of dy * n, both in grads (2, C), weight first; and z has
    scale * (dy - mean of dy - n * mean of dy * n) (arXiv 1502.03167, section 3). The rows are the
    mean, the factor of dy, the factor of z - mean, and the offset.
    """
    back = np.empty((4, terms.shape[1]), np.float32)
    for c in range(terms.shape[1]):
        scale, inverse = terms[SCALE, c], terms[INVERSE, c]
        grads[0, c], grads[1, c] = sums[1, c] * inverse, sums[0, c]
        back[0, c], back[1, c] = terms[MEAN, c], scale
        back[2, c] = -scale * inverse * grads[0, c] / pixels
        back[3, c] = -scale * grads[1, c] / pixels
    return widened(back)
