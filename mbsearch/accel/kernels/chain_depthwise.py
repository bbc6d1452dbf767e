"""Depthwise convolutions of a chain: an image at a time, a row of it in one loop.

An image lies in a frame of zeros as wide as the filter reaches. Where the stride goes over columns,
those of each phase (column modulo stride) lie together, so that what one tap meets is always one
run of memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mbsearch.accel.kernels.jit import Moments, Pair, Values, compiled, inner
from mbsearch.accel.kernels.passes import (
    PITCH,
    Settings,
    add_moments,
    copy_values,
    drain,
    let_through,
    norm_back,
    normed,
    row_width,
    see,
    through_norm,
    widened,
)
from mbsearch.accel.kernels.taps import (
    NINE,
    add_nine,
    add_products,
    add_tap,
    in_nines,
    write_two_rows,
)

# About so many pixels are added up in float32 before their sum is added to one in float64.
_DRAINED = 1024
_AT_ONCE = 4  # rows of an image whose products are added up together


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
def offsets_in(frame: Values, kernel: Pair, channels: int) -> Any:
    """Where each tap lies in a frame, from where the first does, in nines."""
    _, stride, phase = frame.shape
    taps = kernel[0] * kernel[1]
    offsets = np.zeros((-(-taps // NINE), NINE), np.uint64)
    for tap in range(taps):
        row, column = tap // kernel[1], tap % kernel[1]
        along = row * stride * phase + place(column, channels, stride, phase)
        offsets[tap // NINE, tap % NINE] = along
    return offsets


@inner
def images_at_once(pixels: int) -> int:
    """Images of so many pixels that are added up in float32, before they are added in float64."""
    return max(1, _DRAINED // pixels)


@inner
def into_frame(image: Values, terms: Values, kernel: Pair, seen: Values, frame: Values) -> None:
    """Write what is seen of an image (H, W, C) to its frame (rows, stride, values of a phase).

    Where the stride goes over columns, it goes to `seen` (H * W * C) first.
    """
    height, width, channels = image.shape
    _, stride, phase = frame.shape
    flat, into, count = image.reshape(-1), frame.reshape(-1), width * channels
    if stride > 1:
        see(flat, 0, len(flat), terms, seen, 0)
    for i in range(height):
        row = (i + kernel[0] // 2) * stride * phase
        if stride == 1:
            see(flat, i * count, count, terms, into, row + kernel[1] // 2 * channels)
            continue
        for j in range(width):
            at = row + place(j + kernel[1] // 2, channels, stride, phase)
            copy_values(seen, i * count + j * channels, channels, into, at)


@inner
def correlate(
    frame: Values,
    row: int,
    rows: int,
    kernel: Pair,
    stride: int,
    nines: Values,
    offsets: Any,
    channels: int,
    count: int,
    out: Values,
    at: int,
) -> None:
    """Write one or two rows of what filters make of a frame, from one of its rows on."""
    _, phases, phase = frame.shape
    flat, taps, width = frame.reshape(-1), nines.reshape(-1), row_width(channels)
    pitch = phases * phase
    if rows == 2 and kernel == (3, 3) and phases == stride == 1:
        write_two_rows(flat, row * pitch, pitch, channels, taps, width, count, out, at)
        return
    for i in range(rows):
        first = (row + i * stride) * pitch
        for group in range(len(offsets)):
            nine, fresh = taps[group * NINE * PITCH :], group == 0
            add_nine(flat, first, offsets[group], nine, width, count, out, at + i * count, fresh)


@compiled
def depthwise(
    x: Values,
    terms: Values,
    weight: Values,
    stride: Pair,
    scale: Values,
    shift: Values,
    running: tuple[Values, Values],
    settings: Settings,
    z: Values,
    z_terms: Values,
) -> None:
    """Write a depthwise convolution of x (N, H, W, C) by weights (C, kh, kw) to z (N, Ho, Wo, C).

    The padding is half the kernel; the terms of z are those of `pointwise`.
    """
    images, height, width, channels = x.shape
    _, z_height, z_width, _ = z.shape
    kernel, filters = weight.shape[1:], weight.reshape(channels, -1)
    frame = empty_frame(height, width, channels, kernel, stride[1])
    nines, offsets = in_nines(filters, False), offsets_in(frame, kernel, channels)
    wide, sums = widened(terms), np.zeros((2, channels))
    flat_z, whole, count = z.reshape(-1), row_width(channels), z_width * channels
    part, square = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
    around = np.empty(whole, np.float32)
    often = images_at_once(z_height * z_width)
    seen = np.empty(height * width * channels if stride[1] > 1 else 0, np.float32)
    for n in range(images):
        into_frame(x[n], wide, kernel, seen, frame)
        for i in range(0, z_height, 2):
            at, rows = (n * z_height + i) * count, min(2, z_height - i)
            first = i * stride[0]
            correlate(
                frame,
                first,
                rows,
                kernel,
                stride[0],
                nines,
                offsets,
                channels,
                count,
                flat_z,
                at,
            )
            if n == 0 and i == 0:
                for t in range(whole):
                    around[t] = z[0, 0, 0, t % channels]
            add_moments(flat_z, at, rows * count, around, part, square)
        if n % often == often - 1 or n == images - 1:
            drain(part, sums[0])
            drain(square, sums[1])
    normed(sums, around, z.size // channels, scale, shift, running, settings, z_terms)


@inner
def empty_products(kernel: Pair, stride: Pair, width: int) -> Values:
    """A row of zeros for each tap, in threes; some threes have fewer taps."""
    threes = 0
    for phase in range(stride[0]):
        threes += kernel[1] * len(range(phase, kernel[0], 3 * stride[0]))
    products = np.empty((3 * threes, PITCH), np.float32)
    products[:, :width] = 0
    return products


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
    """Add to products those of an image's frame and of its gradients' frame, tap by tap.

    The gradients have these sides. Four rows of them are taken at once, and three taps below each
    other, a stride apart, so that all are read less often; the last row of the gradients' frame is
    empty.
    """
    rows, phases, phase = frame.shape
    flat, flat_grads, count = frame.reshape(-1), grads.reshape(-1), sides[1] * channels
    down, pitch, step, width = stride[0], grads.shape[2], phases * phase, row_width(channels)
    flat_products = products.reshape(-1)
    for i in range(0, sides[0], _AT_ONCE):
        left, empty = sides[0] - i, (len(grads) - 1) * pitch
        g = (i + kernel[0] // 2) * pitch + kernel[1] // 2 * channels
        of = (
            g,
            g + pitch if left > 1 else empty,
            g + 2 * pitch if left > 2 else empty,
            g + 3 * pitch if left > 3 else empty,
        )
        line = 0
        for b in range(kernel[1]):
            along = place(b, channels, phases, phase)
            for remainder in range(down):
                for a in range(remainder, kernel[0], 3 * down):
                    top = i * down + a
                    seen = (  # of rows beyond the last one no product is asked for
                        min(top, rows - 1) * step + along,
                        min(top + down, rows - 1) * step + along,
                        min(top + 2 * down, rows - 1) * step + along,
                        min(top + 3 * down, rows - 1) * step + along,
                        min(top + 4 * down, rows - 1) * step + along,
                        min(top + 5 * down, rows - 1) * step + along,
                    )
                    three = flat_products[line * PITCH :]
                    add_products(flat, seen, flat_grads, of, count, three, width)
                    line += 3


@inner
def drain_products(
    products: Values, kernel: Pair, stride: Pair, width: int, total: Moments
) -> None:
    """Add the products of each tap to total (kh, kw, C), and empty them; others are idle."""
    line = 0
    for b in range(kernel[1]):
        for remainder in range(stride[0]):
            for first in range(remainder, kernel[0], 3 * stride[0]):
                for tap in range(3):
                    a = first + tap * stride[0]
                    if a < kernel[0]:
                        drain(products[line + tap, :width], total[a, b])
                line += 3


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

    `grads` is the frame of gradients of these sides.
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
                tap = taps[a * kernel[1] + b, : row_width(channels)]
                add_tap(flat, first, tap, count, out, right * channels)


@inner
def row_back(
    grads: Values,
    row: int,
    taps: Values,
    kernel: Pair,
    stride: Pair,
    sides: Pair,
    line: Values,
    channels: int,
    x_grad: Values,
    at: int,
    count: int,
) -> None:
    """Write the gradient of a row of an image where the filters have a stride.

    `line` is as long as a phase of a row of the image's frame.
    """
    left = kernel[1] // 2 * channels
    for remainder in range(stride[1]):
        in_frame = row + kernel[0] // 2
        spread_back(grads, in_frame, remainder, taps, kernel, stride, sides, channels, line)
        for of in range(0, len(line), channels):
            column = of * stride[1] + remainder * channels - left
            if 0 <= column < count:
                copy_values(line, of, channels, x_grad, at + column)


@compiled
def depthwise_back(
    grad: Values,
    z: Values,
    z_terms: Values,
    z_sums: Moments,
    x: Values,
    terms: Values,
    weight: Values,
    stride: Pair,
    x_grad: Values,
    weight_grad: Values,
    norm_grads: Values,
    sums: Moments,
) -> None:
    """Gradients of `depthwise` and its batch norm, as those of `pointwise_back`."""
    images, height, width, channels = x.shape
    sides = z.shape[1:3]
    kernel, filters = weight.shape[1:], weight.reshape(channels, -1)
    above, left = kernel[0] // 2, kernel[1] // 2 * channels
    frame = empty_frame(height, width, channels, kernel, stride[1])
    grads = empty_frame(sides[0] + 1, sides[1], channels, kernel, 1)  # the last row stays empty
    wide, whole = widened(terms), row_width(channels)
    wide_back = norm_back(z_terms, z_sums, z.size // channels, norm_grads)
    part, product = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
    products = empty_products(kernel, stride, whole)
    total = np.zeros((kernel[0], kernel[1], channels))
    taps, offsets = in_nines(filters, stride == (1, 1)), offsets_in(grads, kernel, channels)
    line = np.empty(frame.shape[2], np.float32)
    flat, flat_grad, flat_z = x.reshape(-1), grad.reshape(-1), z.reshape(-1)
    flat_frame, flat_grads, flat_x_grad = frame.reshape(-1), grads.reshape(-1), x_grad.reshape(-1)
    often = images_at_once(height * width)
    seen = np.empty(height * width * channels if stride[1] > 1 else 0, np.float32)
    for n in range(images):
        into_frame(x[n], wide, kernel, seen, frame)
        for i in range(sides[0]):
            first, count = (n * sides[0] + i) * sides[1] * channels, sides[1] * channels
            at = (i + above) * grads.shape[2] + left
            through_norm(flat_grad, flat_z, first, count, wide_back, flat_grads, at)
        filter_products(frame, grads, kernel, stride, sides, channels, products)
        count = width * channels
        for i in range(0, height, 2):
            first, rows = (n * height + i) * count, min(2, height - i)
            if stride == (1, 1):
                correlate(
                    grads,
                    i,
                    rows,
                    kernel,
                    1,
                    taps,
                    offsets,
                    channels,
                    count,
                    flat_x_grad,
                    first,
                )
            for row in range(i, i + rows):
                at, in_frame = (n * height + row) * count, (row + above) * frame.shape[2]
                if stride != (1, 1):
                    row_back(
                        grads,
                        row,
                        taps,
                        kernel,
                        stride,
                        sides,
                        line,
                        channels,
                        flat_x_grad,
                        at,
                        count,
                    )
                if terms.shape[1] == 0:
                    continue
                y, of = (flat_frame, in_frame + left) if stride[1] == 1 else (seen, row * count)
                let_through(flat_x_grad, at, count, y, of, flat, wide, part, product)
        if n % often == often - 1 or n == images - 1:
            drain_products(products, kernel, stride, whole, total)
            if terms.shape[1] > 0:
                drain(part, sums[0])
                drain(product, sums[1])
    weight_grad[:] = total.transpose(2, 0, 1)
