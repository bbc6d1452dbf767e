"""Inner loops of depthwise convolutions on a frame: correlations and their gradients.

A tap is one value per channel, repeated to the length of a row of terms. Taps lie `PITCH` apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mbsearch.accel.kernels.jit import Values, inner
from mbsearch.accel.kernels.passes import PITCH, row_width, unsigned

NINE = 9
"""Taps of a filter that one loop multiplies by."""


@inner
def grouped_taps(filters: Values, turned: bool) -> Values:
    """Return filters (C, taps) as rows, in groups of nine taps, padded with zeros.

    `turned` reverses the order of the taps, as the input gradient needs it.
    """
    channels, taps = filters.shape
    nines = np.empty((-(-taps // NINE) * NINE, PITCH), np.float32)
    for tap in range(len(nines)):
        of = taps - 1 - tap if turned else tap
        for t in range(row_width(channels)):
            nines[tap, t] = filters[t % channels, of] if tap < taps else 0
    return nines


@inner
def add_nine_taps(
    frame: Values,
    first: int,
    offsets: Any,
    taps: Values,
    width: int,
    count: int,
    out: Values,
    at: int,
    fresh: bool,
) -> None:
    """Correlate a frame with nine filter taps, and add the result to `out`.

    If `fresh`, `out` is overwritten. Tap i starts at ``first + offsets[i]`` in the frame.
    """
    count, at, first = unsigned(count), unsigned(at), unsigned(first)
    a, b, c = first + offsets[0], first + offsets[1], first + offsets[2]
    d, e, f = first + offsets[3], first + offsets[4], first + offsets[5]
    g, h, i = first + offsets[6], first + offsets[7], first + offsets[8]
    width, start = unsigned(width), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            s = start + t
            value = (
                frame[a + s] * taps[t]
                + frame[b + s] * taps[t + unsigned(PITCH)]
                + frame[c + s] * taps[t + unsigned(2 * PITCH)]
                + frame[d + s] * taps[t + unsigned(3 * PITCH)]
                + frame[e + s] * taps[t + unsigned(4 * PITCH)]
                + frame[f + s] * taps[t + unsigned(5 * PITCH)]
                + frame[g + s] * taps[t + unsigned(6 * PITCH)]
                + frame[h + s] * taps[t + unsigned(7 * PITCH)]
                + frame[i + s] * taps[t + unsigned(8 * PITCH)]
            )
            out[at + s] = value if fresh else out[at + s] + value
        start = unsigned(start + width)


@inner
def write_two_rows(
    frame: Values,
    first: int,
    pitch: int,
    column: int,
    taps: Values,
    width: int,
    count: int,
    out: Values,
    at: int,
) -> None:
    """Write two output rows of a 3 x 3 correlation of a frame.

    The rows of the frame are `pitch` values apart. The two rows that both outputs need are read
    once.
    """
    a, pitch, one, two = unsigned(first), unsigned(pitch), unsigned(column), unsigned(2 * column)
    b, c, d = unsigned(a + pitch), unsigned(a + 2 * pitch), unsigned(a + 3 * pitch)
    count, upper, lower = unsigned(count), unsigned(at), unsigned(at + count)
    width, start = unsigned(width), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            s = start + t
            k0, k1, k2 = taps[t], taps[t + unsigned(PITCH)], taps[t + unsigned(2 * PITCH)]
            k3, k4 = taps[t + unsigned(3 * PITCH)], taps[t + unsigned(4 * PITCH)]
            k5, k6 = taps[t + unsigned(5 * PITCH)], taps[t + unsigned(6 * PITCH)]
            k7, k8 = taps[t + unsigned(7 * PITCH)], taps[t + unsigned(8 * PITCH)]
            b0, b1, b2 = frame[b + s], frame[b + one + s], frame[b + two + s]
            c0, c1, c2 = frame[c + s], frame[c + one + s], frame[c + two + s]
            above = frame[a + s] * k0 + frame[a + one + s] * k1 + frame[a + two + s] * k2
            below = frame[d + s] * k6 + frame[d + one + s] * k7 + frame[d + two + s] * k8
            out[upper + s] = above + b0 * k3 + b1 * k4 + b2 * k5 + c0 * k6 + c1 * k7 + c2 * k8
            out[lower + s] = b0 * k0 + b1 * k1 + b2 * k2 + c0 * k3 + c1 * k4 + c2 * k5 + below
        start = unsigned(start + width)


@inner
def add_tap(frame: Values, first: int, tap: Values, count: int, out: Values, at: int) -> None:
    """Add the product of a frame's values and one filter tap to `out`."""
    count, first, at = unsigned(count), unsigned(first), unsigned(at)
    width, start = unsigned(len(tap)), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            out[at + start + t] += frame[first + start + t] * tap[t]
        start = unsigned(start + width)


@inner
def add_products(
    frame: Values, x: Any, grads: Values, g: Any, count: int, products: Values, width: int
) -> None:
    """Add to `products` the weight gradients of three taps, from four rows of gradients.

    The four rows of gradients start at `g`, the six rows of the frame at `x`. The three taps are in
    one column of the filter: the gradient of row i is multiplied by rows i, i + 1 and i + 2 of the
    frame.
    """
    count, width, start = unsigned(count), unsigned(width), unsigned(0)
    x0, x1, x2, x3 = unsigned(x[0]), unsigned(x[1]), unsigned(x[2]), unsigned(x[3])
    x4, x5, g0, g1 = unsigned(x[4]), unsigned(x[5]), unsigned(g[0]), unsigned(g[1])
    g2, g3 = unsigned(g[2]), unsigned(g[3])
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            s = start + t
            a, b, c, d = grads[g0 + s], grads[g1 + s], grads[g2 + s], grads[g3 + s]
            f1, f2, f3, f4 = frame[x1 + s], frame[x2 + s], frame[x3 + s], frame[x4 + s]
            products[t] += frame[x0 + s] * a + f1 * b + f2 * c + f3 * d
            products[t + unsigned(PITCH)] += f1 * a + f2 * b + f3 * c + f4 * d
            products[t + unsigned(2 * PITCH)] += f2 * a + f3 * b + f4 * c + frame[x5 + s] * d
        start = unsigned(start + width)
