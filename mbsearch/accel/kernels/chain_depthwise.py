"""Kernels of a chain for depthwise convolutions: one image at a time, one loop per row.

An image is copied into a frame, padded with zeros by half the kernel. Columns of a phase (column
modulo stride) are adjacent, so that each tap reads one contiguous run of memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mbsearch.accel.kernels.jit import Moments, Pair, Values, compiled, inner
from mbsearch.accel.kernels.passes import (
    PITCH,
    Settings,
    activation_backward,
    add_and_clear,
    add_moments,
    copy_values,
    norm_backward,
    norm_coefficients,
    read_values,
    repeated,
    row_width,
    write_terms,
)
from mbsearch.accel.kernels.taps import (
    NINE,
    add_nine_taps,
    add_products,
    add_tap,
    grouped_taps,
    write_two_rows,
)

# Pixels that are summed in float32 before the sum is added to a total in float64.
_PIXELS_PER_SUM = 1024
_ROWS_PER_LOOP = 4  # rows of an image whose products are summed in one loop


@inner
def new_frame(height: int, width: int, channels: int, kernel: Pair, stride: int) -> Values:
    """Return a frame of zeros for an image, of shape (rows, phases, values of a phase)."""
    columns = -(-(width + kernel[1] - 1) // stride)
    return np.zeros((height + kernel[0] - 1, stride, columns * channels), np.float32)


@inner
def column_offset(column: int, channels: int, stride: int, phase: int) -> int:
    """Return the offset of a column within a row of a frame."""
    return column % stride * phase + column // stride * channels


@inner
def tap_offsets(frame: Values, kernel: Pair, channels: int) -> Any:
    """Return the offset of each filter tap from the first tap in a frame, in groups of nine."""
    _, stride, phase = frame.shape
    taps = kernel[0] * kernel[1]
    offsets = np.zeros((-(-taps // NINE), NINE), np.uint64)
    for tap in range(taps):
        row, column = tap // kernel[1], tap % kernel[1]
        along = row * stride * phase + column_offset(column, channels, stride, phase)
        offsets[tap // NINE, tap % NINE] = along
    return offsets


@inner
def images_per_sum(pixels: int) -> int:
    """Return the number of images to sum in float32 before adding to a float64 total."""
    return max(1, _PIXELS_PER_SUM // pixels)


@inner
def fill_frame(image: Values, terms: Values, kernel: Pair, seen: Values, frame: Values) -> None:
    """Normalize and activate an image (H, W, C) by its terms, and write it to its frame.

    The shape of the frame is (rows, stride, values of a phase). With a horizontal stride the image
    is written to `seen` (H * W * C) first.
    """
    height, width, channels = image.shape
    _, stride, phase = frame.shape
    flat, into, count = image.reshape(-1), frame.reshape(-1), width * channels
    if stride > 1:
        read_values(flat, 0, len(flat), terms, seen, 0)
    for i in range(height):
        row = (i + kernel[0] // 2) * stride * phase
        if stride == 1:
            read_values(flat, i * count, count, terms, into, row + kernel[1] // 2 * channels)
            continue
        for j in range(width):
            at = row + column_offset(j + kernel[1] // 2, channels, stride, phase)
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
    """Correlate a frame with filters, and write one or two rows of the output."""
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
            add_nine_taps(
                flat, first, offsets[group], nine, width, count, out, at + i * count, fresh
            )


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
    """Convolve x (N, H, W, C) with depthwise weights (C, kh, kw), and write z (N, Ho, Wo, C).

    The padding is half the kernel. For the terms of z see `pointwise`.
    """
    images, height, width, channels = x.shape
    _, z_height, z_width, _ = z.shape
    kernel, filters = weight.shape[1:], weight.reshape(channels, -1)
    frame = new_frame(height, width, channels, kernel, stride[1])
    nines, offsets = grouped_taps(filters, False), tap_offsets(frame, kernel, channels)
    wide, sums = repeated(terms), np.zeros((2, channels))
    flat_z, whole, count = z.reshape(-1), row_width(channels), z_width * channels
    part, square = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
    around = np.empty(whole, np.float32)
    often = images_per_sum(z_height * z_width)
    seen = np.empty(height * width * channels if stride[1] > 1 else 0, np.float32)
    for n in range(images):
        fill_frame(x[n], wide, kernel, seen, frame)
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
            add_and_clear(part, sums[0])
            add_and_clear(square, sums[1])
    write_terms(sums, around, z.size // channels, scale, shift, running, settings, z_terms)


@inner
def new_products(kernel: Pair, stride: Pair, width: int) -> Values:
    """Return an array with a row of zeros per filter tap, in groups of three.

    Some groups have fewer taps.
    """
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
    """Multiply an image's frame by its gradients' frame, and add to one row per filter tap.

    `sides` are the height and width of the gradients. A loop takes four rows of them and three taps
    of a column, a stride apart, so that each value is read less often. The last row of the
    gradients' frame is zero.
    """
    rows, phases, phase = frame.shape
    flat, flat_grads, count = frame.reshape(-1), grads.reshape(-1), sides[1] * channels
    down, pitch, step, width = stride[0], grads.shape[2], phases * phase, row_width(channels)
    flat_products = products.reshape(-1)
    for i in range(0, sides[0], _ROWS_PER_LOOP):
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
            along = column_offset(b, channels, phases, phase)
            for remainder in range(down):
                for a in range(remainder, kernel[0], 3 * down):
                    top = i * down + a
                    seen = (  # products of rows beyond the last are not used
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
def add_and_clear_products(
    products: Values, kernel: Pair, stride: Pair, width: int, total: Moments
) -> None:
    """Add the products of each filter tap to `total` (kh, kw, C), and set them to zero."""
    line = 0
    for b in range(kernel[1]):
        for remainder in range(stride[0]):
            for first in range(remainder, kernel[0], 3 * stride[0]):
                for tap in range(3):
                    a = first + tap * stride[0]
                    if a < kernel[0]:
                        add_and_clear(products[line + tap, :width], total[a, b])
                line += 3


@inner
def phase_gradient(
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
    """Write the gradient of one phase of a row in an image's frame.

    The array `grads` is the frame of the gradients; `sides` are their height and width.
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
def row_gradient(
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
    """Write the gradient of one row of an image, for a convolution with a stride.

    `line` is a buffer with the length of a phase in the image's frame.
    """
    left = kernel[1] // 2 * channels
    for remainder in range(stride[1]):
        in_frame = row + kernel[0] // 2
        phase_gradient(grads, in_frame, remainder, taps, kernel, stride, sides, channels, line)
        for of in range(0, len(line), channels):
            column = of * stride[1] + remainder * channels - left
            if 0 <= column < count:
                copy_values(line, of, channels, x_grad, at + column)


@compiled
def depthwise_backward(
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
    """Write the gradients of input, weights, scale and shift of `depthwise` and its batch norm.

    The arguments are those of `pointwise_backward`.
    """
    images, height, width, channels = x.shape
    sides = z.shape[1:3]
    kernel, filters = weight.shape[1:], weight.reshape(channels, -1)
    above, left = kernel[0] // 2, kernel[1] // 2 * channels
    frame = new_frame(height, width, channels, kernel, stride[1])
    grads = new_frame(sides[0] + 1, sides[1], channels, kernel, 1)  # the last row stays zero
    wide, whole = repeated(terms), row_width(channels)
    wide_back = norm_coefficients(z_terms, z_sums, z.size // channels, norm_grads)
    part, product = np.zeros(whole, np.float32), np.zeros(whole, np.float32)
    products = new_products(kernel, stride, whole)
    total = np.zeros((kernel[0], kernel[1], channels))
    taps, offsets = grouped_taps(filters, stride == (1, 1)), tap_offsets(grads, kernel, channels)
    line = np.empty(frame.shape[2], np.float32)
    flat, flat_grad, flat_z = x.reshape(-1), grad.reshape(-1), z.reshape(-1)
    flat_frame, flat_grads, flat_x_grad = frame.reshape(-1), grads.reshape(-1), x_grad.reshape(-1)
    often = images_per_sum(height * width)
    seen = np.empty(height * width * channels if stride[1] > 1 else 0, np.float32)
    for n in range(images):
        fill_frame(x[n], wide, kernel, seen, frame)
        for i in range(sides[0]):
            first, count = (n * sides[0] + i) * sides[1] * channels, sides[1] * channels
            at = (i + above) * grads.shape[2] + left
            norm_backward(flat_grad, flat_z, first, count, wide_back, flat_grads, at)
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
                    row_gradient(
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
                activation_backward(flat_x_grad, at, count, y, of, flat, wide, part, product)
        if n % often == often - 1 or n == images - 1:
            add_and_clear_products(products, kernel, stride, whole, total)
            if terms.shape[1] > 0:
                add_and_clear(part, sums[0])
                add_and_clear(product, sums[1])
    weight_grad[:] = total.transpose(2, 0, 1)
