"""Inner loops of the chains' kernels, on values in the CPU cache.

Values are float32 in the order of memory: channels of a pixel, then the next pixel. The `terms`
(6, C) of a map say how the next layer reads it: mean and inverse deviation of the batch, scale and
shift of the normalization, lower and upper bound of the activation. A map with terms (6, 0) is read
as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import uintp

from mbsearch.accel.kernels.jit import Moments, Values, inner
from mbsearch.accel.kernels.steps import batch_terms

Settings = tuple[float, float, float, float]
"""Epsilon and momentum of a batch norm, lower and upper bound of the activation."""

MEAN, INVERSE, SCALE, SHIFT, LEAST, MOST = range(6)
"""Rows of a map's terms."""
CACHED = 48 * 1024
"""Values that fit into a core's cache."""
# Least number of values in a row: shorter loops would spend their time on starting.
_ROW = 192

# Distance between rows of an array of which a loop reads several rows. It is the same for all
# arrays, so that one register holds it. It is no multiple of a page: the processor confuses
# addresses whose last twelve bits are equal.
PITCH = 16 * 1024 + 336
WIDEST = 16 * 1024
"""Most channels of a map that the kernels accept."""

# Signed indices may count from the end; LLVM does not vectorize loops that allow for it.
unsigned: Any = uintp


@inner
def row_width(channels: int) -> int:
    """Return the number of values in a row: whole pixels, at least `_ROW` values.

    Without channels it is zero.
    """
    width = channels
    while 0 < width < _ROW:
        width += channels
    return width


@inner
def repeated(terms: Values) -> Values:
    """Return `terms` with each row repeated, channels in order, up to `row_width` values."""
    rows, channels = terms.shape
    wide = np.empty((rows, row_width(channels)), np.float32)
    for row in range(rows):
        for t in range(wide.shape[1]):
            wide[row, t] = terms[row, t % channels]
    return wide


@inner
def add_and_clear(part: Values, total: Any) -> None:
    """Add a row of pixels to per-channel totals, and set the row to zero."""
    channels = len(total)
    for start in range(0, len(part), channels):
        for c in range(channels):
            total[c] += part[unsigned(start + c)]
    part[:] = 0


@inner
def copy_values(x: Values, first: int, count: int, y: Values, at: int) -> None:
    """Copy ``x[first : first + count]`` into y, from index `at` on."""
    first, count, at = unsigned(first), unsigned(count), unsigned(at)
    for t in range(count):
        y[at + t] = x[first + t]


@inner
def read_values(x: Values, first: int, count: int, terms: Values, y: Values, at: int) -> None:
    """Write the values of x to y, normalized and activated by the terms of x."""
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
    """Add the distances of z from an origin to `part`, and their squares to `square`."""
    first, count = unsigned(first), unsigned(count)
    width, start = unsigned(len(origin)), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            distance = z[first + start + t] - origin[t]
            part[t] += distance
            square[t] += distance * distance
        start = unsigned(start + width)


@inner
def norm_backward(
    grad: Values, z: Values, first: int, count: int, back: Values, out: Values, at: int
) -> None:
    """Write the gradient of a batch norm's input z, given the gradient of its output.

    For `back` see `norm_coefficients`.
    """
    first, count, at = unsigned(first), unsigned(count), unsigned(at)
    width, start = unsigned(back.shape[1]), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            of = first + start + t
            by_moments = back[2, t] * (z[of] - back[0, t]) + back[3, t]
            out[at + start + t] = back[1, t] * grad[of] + by_moments
        start = unsigned(start + width)


@inner
def activation_backward(
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
    """Zero a gradient where the activation y is clipped, and add to its `norm_sums`."""
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
    """Add a gradient to `part`, and its products with ``x - mean`` to `product`."""
    first, count = unsigned(first), unsigned(count)
    width, start = unsigned(terms.shape[1]), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            of = first + start + t
            part[t] += grad[of]
            product[t] += grad[of] * (x[of] - terms[MEAN, t])
        start = unsigned(start + width)


@inner
def write_terms(
    moments: Moments,
    origin: Values,
    pixels: int,
    scale: Values,
    shift: Values,
    running: tuple[Values, Values],
    settings: Settings,
    terms: Values,
) -> None:
    """Write the terms of a map, given its moments about an origin.

    The running mean and variance of its batch norm are updated.
    """
    epsilon, momentum, least, most = settings
    of_batch = (moments[0], moments[1], origin, pixels)
    batch_terms(of_batch, scale, shift, epsilon, momentum, running[0], running[1], terms)
    for c in range(terms.shape[1]):
        terms[LEAST, c], terms[MOST, c] = least, most


@inner
def norm_coefficients(terms: Values, sums: Moments, pixels: int, grads: Values) -> Values:
    """Write a batch norm's weight gradients, and return coefficients of its input gradient.

    Let dy be the gradient of the normalized map and n = (z - mean) * inverse. The gradient of the
    bias is the sum of dy, that of the weight the sum of dy * n; grads (2, C) has the weight first.
    The gradient of z is scale * (dy - mean of dy - n * mean of dy * n) (arXiv 1502.03167,
    section 3). Rows of the result: mean, factor of dy, factor of z - mean, offset; as wide as a
    row. `sums` are those of `norm_sums`.
    """
    back = np.empty((4, terms.shape[1]), np.float32)
    for c in range(terms.shape[1]):
        scale, inverse = terms[SCALE, c], terms[INVERSE, c]
        grads[0, c], grads[1, c] = sums[1, c] * inverse, sums[0, c]
        back[0, c], back[1, c] = terms[MEAN, c], scale
        back[2, c] = -scale * inverse * grads[0, c] / pixels
        back[3, c] = -scale * grads[1, c] / pixels
    return repeated(back)
