"""Depthwise convolutions of a chain: an image at a time, a row of it in one loop.

An image lies in a frame of zeros as wide as the filter reaches. Where the stride goes over columns,
those of each phase (column modulo stride) lie together, so that what one tap meets is always one
run of memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mbsearch.training.kernels.passes import (
    Moments,
    add_moments,
    copy_values,
    drain,
    inner,
    let_through,
    row_width,
    see,
    through_norm,
    unsigned,
    widened,
)
from mbsearch.training.kernels.steps import Pair, Values, compiled

# Compiled with the passes and steps f45d3c93f284.

# About so many pixels are added up in float32 before their sum is added to one in float64.
_DRAINED = 1024
_NINE = 9  # taps of a filter that are taken at once
_AT_ONCE = 4  # rows of an image whose products are added up together


@inner
def add_nine(
    frame: Values,
    first: int,
    offsets: Any,
    taps: Values,
    count: int,
    out: Values,
    at: int,
    fresh: bool,
) -> None:
    """Add to out what nine taps (9, row width) make of a frame, or begin with it.

    What each of them meets first lies at its offset from `first`.
    """
    count, at, first = unsigned(count), unsigned(at), unsigned(first)
    a, b, c = first + offsets[0], first + offsets[1], first + offsets[2]
    d, e, f = first + offsets[3], first + offsets[4], first + offsets[5]
    g, h, i = first + offsets[6], first + offsets[7], first + offsets[8]
    width, start = unsigned(taps.shape[1]), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            s = start + t
            value = (
                frame[a + s] * taps[0, t]
                + frame[b + s] * taps[1, t]
                + frame[c + s] * taps[2, t]
                + frame[d + s] * taps[3, t]
                + frame[e + s] * taps[4, t]
                + frame[f + s] * taps[5, t]
                + frame[g + s] * taps[6, t]
                + frame[h + s] * taps[7, t]
                + frame[i + s] * taps[8, t]
            )
            out[at + s] = value if fresh else out[at + s] + value
        start = unsigned(start + width)


@inner
def add_tap(frame: Values, first: int, tap: Values, count: int, out: Values, at: int) -> None:
    """Add to out what one tap, as wide as a row, makes of a frame."""
    count, first, at = unsigned(count), unsigned(first), unsigned(at)
    width, start = unsigned(len(tap)), unsigned(0)
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            out[at + start + t] += frame[first + start + t] * tap[t]
        start = unsigned(start + width)


@inner
def add_products(
    frame: Values, x: Any, grads: Values, g: Any, count: int, products: Values
) -> None:
    """Add up the products of four rows of a frame, which begin at x, and of gradients, at g."""
    count, width, start = unsigned(count), unsigned(len(products)), unsigned(0)
    x0, x1, x2, x3 = unsigned(x[0]), unsigned(x[1]), unsigned(x[2]), unsigned(x[3])
    g0, g1, g2, g3 = unsigned(g[0]), unsigned(g[1]), unsigned(g[2]), unsigned(g[3])
    while start < count:
        for t in range(min(width, unsigned(count - start))):
            s = start + t
            products[t] += (
                frame[x0 + s] * grads[g0 + s]
                + frame[x1 + s] * grads[g1 + s]
                + frame[x2 + s] * grads[g2 + s]
                + frame[x3 + s] * grads[g3 + s]
            )
        start = unsigned(start + width)


@inner
def empty_frame(height: int, width: int, channels: int, kernel: Pair, stride: int) -> Values:
    """The frame (rows, phases, values of a phase) of an image, of zeros."""
    columns = -(-(width + kernel[1] - 1) // stride)
    return np.zeros((height + kernel[0] - 1, stride, columns * channels), np.float32)


@inner
def place(column: int, channels: int, stride: int, phase: int) -> int:
    """Where a column of a frame lies in its row."""
    return column % stride * phase + column // stride * channels


@inner
def in_nines(taps: Values) -> Values:
    """Filters (kh, kw, C) as (groups, 9, row width), tap by tap; the last may be of zeros."""
    kh, kw, channels = taps.shape
    nines = np.zeros((-(-kh * kw // _NINE), _NINE, row_width(channels)), np.float32)
    for tap in range(kh * kw):
        for t in range(nines.shape[2]):
            nines[tap // _NINE, tap % _NINE, t] = taps[tap // kw, tap % kw, t % channels]
    return nines


@inner
def offsets_in(frame: Values, kernel: Pair, channels: int) -> Any:
    """Where each tap lies in a frame, from where the first does, in nines."""
    _, stride, phase = frame.shape
    taps = kernel[0] * kernel[1]
    offsets = np.zeros((-(-taps // _NINE), _NINE), np.uint64)
    for tap in range(taps):
        row, column = tap // kernel[1], tap % kernel[1]
        along = row * stride * phase + place(column, channels, stride, phase)
        offsets[tap // _NINE, tap % _NINE] = along
    return offsets


@inner
def images_at_once(pixels: int) -> int:
    """Images of so many pixels that are added up in float32, before they are added in float64."""
    return max(1, _DRAINED // pixels)


@inner
def into_frame(image: Values, terms: Values, kernel: Pair, stride: int, frame: Values) -> None:
    """Write what is seen of an image (H, W, C) to its frame (rows, stride, values of a phase)."""
    height, width, channels = image.shape
    _, _, phase = frame.shape
    flat, into = image.reshape(-1), frame.reshape(-1)
    columns = width if stride == 1 else 1  # at once
    for i in range(height):
        for j in range(0, width, columns):
            at = (i + kernel[0] // 2) * stride * phase
            at += place(j + kernel[1] // 2, channels, stride, phase)
            see(flat, (i * width + j) * channels, columns * channels, terms, into, at)


@inner
def correlate(
    frame: Values, row: int, nines: Values, offsets: Any, count: int, out: Values, at: int
) -> None:
    """Write a row of what filters make of a frame, from one of its rows on."""
    _, stride, phase = frame.shape
    flat, first = frame.reshape(-1), row * stride * phase
    for group in range(len(nines)):
        add_nine(flat, first, offsets[group], nines[group], count, out, at, group == 0)


@compiled
def depthwise(
    x: Values, terms: Values, taps: Values, stride: Pair, z: Values, origin: Values, sums: Moments
) -> None:
    """Write a depthwise convolution of x (N, H, W, C) by taps (kh, kw, C) to z (N, Ho, Wo, C).

    The padding is half the kernel; origin and sums are those of `pointwise`.
    """
    images, height, width, channels = x.shape
    _, z_height, z_width, _ = z.shape
    kernel = taps.shape[:2]
    frame = empty_frame(height, width, channels, kernel, stride[1])
    nines, offsets, wide = in_nines(taps), offsets_in(frame, kernel, channels), widened(terms)
    flat_z, whole = z.reshape(-1), row_width(channels)
    part, square = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
    around = np.empty(whole, np.float32)
    often = images_at_once(z_height * z_width)
    for n in range(images):
        into_frame(x[n], wide, kernel, stride[1], frame)
        for i in range(z_height):
            at, count = (n * z_height + i) * z_width * channels, z_width * channels
            correlate(frame, i * stride[0], nines, offsets, count, flat_z, at)
            if n == 0 and i == 0:
                origin[:] = z[0, 0, 0]
                for t in range(whole):
                    around[t] = origin[t % channels]
            add_moments(flat_z, at, count, around, part, square)
        if n % often == often - 1 or n == images - 1:
            drain(part, sums[0])
            drain(square, sums[1])


@inner
def filter_products(
    frame: Values,
    grads: Values,
    kernel: Pair,
    stride: Pair,
    sides: Pair,
    channels: int,
    products: Values,
) -> None:
    """Add to products (taps, row width) those of an image's frame and of its gradients' frame.

    The gradients have these sides. Four rows of them are taken at once, so that the products are
    read and written less often; the last row of their frame is empty.
    """
    _, phases, phase = frame.shape
    flat, flat_grads, count = frame.reshape(-1), grads.reshape(-1), sides[1] * channels
    pitch, step = grads.shape[2], stride[0] * phases * phase
    empty = (len(grads) - 1) * pitch
    for i in range(0, sides[0], _AT_ONCE):
        left = sides[0] - i
        g = (i + kernel[0] // 2) * pitch + kernel[1] // 2 * channels
        of = (
            g,
            g + pitch if left > 1 else empty,
            g + 2 * pitch if left > 2 else empty,
            g + 3 * pitch if left > 3 else empty,
        )
        for tap in range(len(products)):
            a, b = tap // kernel[1], tap % kernel[1]
            x = i * step + a * phases * phase + place(b, channels, phases, phase)
            seen = (
                x,
                x + step if left > 1 else 0,
                x + 2 * step if left > 2 else 0,
                x + 3 * step if left > 3 else 0,
            )
            add_products(flat, seen, flat_grads, of, count, products[tap])


@inner
def spread_back(
    grads: Values,
    row: int,
    remainder: int,
    taps: Values,
    kernel: Pair,
    stride: Pair,
    sides: Pair,
    channels: int,
    out: Values,
) -> None:
    """Write the gradient of one phase of a row of an image's frame, by the taps it was met by.

    `grads` is the frame of gradients of these sides; `taps` are as wide as a row.
    """
    pitch, flat = grads.shape[2], grads.reshape(-1)
    columns = len(out) // channels
    out[:] = 0
    for a in range(row % stride[0], kernel[0], stride[0]):
        i = (row - a) // stride[0]
        if 0 <= i < sides[0]:
            first = (i + kernel[0] // 2) * pitch + kernel[1] // 2 * channels
            for b in range(remainder, kernel[1], stride[1]):
                right = b // stride[1]
                count = min(columns - right, sides[1]) * channels
                add_tap(flat, first, taps[a * kernel[1] + b], count, out, right * channels)


@compiled
def depthwise_back(
    grad: Values,
    z: Values,
    back: Values,
    x: Values,
    terms: Values,
    taps: Values,
    stride: Pair,
    x_grad: Values,
    taps_grad: Values,
    sums: Moments,
) -> None:
    """Gradients of `depthwise` with the batch norm after it, as those of `pointwise_back`."""
    images, height, width, channels = x.shape
    sides = z.shape[1:3]
    kernel = taps.shape[:2]
    above, left = kernel[0] // 2, kernel[1] // 2
    frame = empty_frame(height, width, channels, kernel, stride[1])
    grads = empty_frame(sides[0] + 1, sides[1], channels, kernel, 1)  # the last row stays empty
    wide, wide_back, whole = widened(terms), widened(back), row_width(channels)
    part, product = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
    total = np.zeros((kernel[0] * kernel[1], channels))
    products = np.zeros((len(total), whole), np.float32)
    turned, offsets = in_nines(taps[::-1, ::-1].copy()), offsets_in(grads, kernel, channels)
    wide_taps, line = widened(taps.reshape(-1, channels)), np.empty(frame.shape[2], np.float32)
    flat, flat_grad, flat_z = x.reshape(-1), grad.reshape(-1), z.reshape(-1)
    flat_frame, flat_grads, flat_x_grad = frame.reshape(-1), grads.reshape(-1), x_grad.reshape(-1)
    often, seen_row = images_at_once(height * width), np.empty(width * channels, np.float32)
    for n in range(images):
        into_frame(x[n], wide, kernel, stride[1], frame)
        for i in range(sides[0]):
            first, count = (n * sides[0] + i) * sides[1] * channels, sides[1] * channels
            at = (i + above) * grads.shape[2] + left * channels
            through_norm(flat_grad, flat_z, first, count, wide_back, flat_grads, at)
        filter_products(frame, grads, kernel, stride, sides, channels, products)
        for i in range(height):
            first = (n * height + i) * width * channels
            if stride == (1, 1):
                count = width * channels
                correlate(grads, i, turned, offsets, count, flat_x_grad, first)
                seen = (i + above) * frame.shape[2] + left * channels
                if terms.shape[1] > 0:
                    let_through(
                        flat_x_grad, first, count, flat_frame, seen, flat, wide, part, product
                    )
                continue
            for remainder in range(stride[1]):
                spread_back(
                    grads, i + above, remainder, wide_taps, kernel, stride, sides, channels, line
                )
                for column in range(remainder, width + left, stride[1]):
                    if column < left:
                        continue
                    at = first + (column - left) * channels
                    copy_values(line, column // stride[1] * channels, channels, flat_x_grad, at)
            if terms.shape[1] > 0:
                see(flat, first, width * channels, wide, seen_row, 0)
                let_through(
                    flat_x_grad, first, width * channels, seen_row, 0, flat, wide, part, product
                )
        if n % often == often - 1 or n == images - 1:
            for tap in range(len(total)):
                drain(products[tap], total[tap])
            if terms.shape[1] > 0:
                drain(part, sums[0])
                drain(product, sums[1])
    for tap in range(len(total)):
        for c in range(channels):
            taps_grad[tap // kernel[1], tap % kernel[1], c] = total[tap, c]
