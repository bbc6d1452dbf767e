"""Kernels of single layers: batch normalization, and depthwise convolution's gradients.

Maps are arrays (N, H, W, C) of float32, or of bfloat16 stored as uint16. Sums are in float32 and
float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray

from mbsearch.accel.kernels.jit import Stored, Values, compiled

DTYPES = (torch.float32, torch.bfloat16)

# Rows that are summed in float32 before the sum is added to a total in float64.
_BLOCK = 128


def stored(x: torch.Tensor) -> Stored:
    """Return a float32 or bfloat16 tensor as an array for a kernel.

    It is a copy only if the tensor is not contiguous. Values of bfloat16 are stored as uint16.
    """
    x = x.detach().contiguous()
    memory: Stored = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return memory


def new_map(x: torch.Tensor) -> torch.Tensor:
    """Return an empty tensor with the shape (N, C, H, W) and precision of x, channels last."""
    n, c, h, w = x.shape
    return torch.empty((n, h, w, c), dtype=x.dtype).permute(0, 3, 1, 2)


def _read(value: Any) -> Any:
    """Return a value of a float32 or bfloat16 map as float32."""
    raise NotImplementedError


@overload(_read, inline="always", strict=False)
def _read_compiled(value: Any) -> Any:
    if value == types.float32:
        return lambda value: value
    return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)


def _written(value: Any, like: Any) -> Any:
    """Return a float32 value in the precision of the map `like`.

    For bfloat16 it is rounded to the nearest, ties to even.
    """
    raise NotImplementedError


@overload(_written, inline="always", strict=False)
def _written_compiled(value: Any, like: Any) -> Any:
    if like.dtype == types.float32:
        return lambda value, like: value

    def rounded(value: Any, like: Any) -> Any:
        bits = np.float32(value).view(np.uint32)
        up = np.uint32(0x7FFF) + np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
        return np.uint16(np.uint32(np.uint32(bits + up) >> np.uint32(16)))

    return rounded


@njit(inline="always")
def _tiled(values: Values, width: int) -> Values:
    tiled = np.empty(width, np.float32)
    for c in range(width):
        tiled[c] = values[c % len(values)]
    return tiled


@njit(inline="always")
def _add_pixels(sums: NDArray[np.float64], channels: int) -> None:
    """Add the sums of a row's other pixels to the sums of its first pixel."""
    for c in range(channels, len(sums)):
        sums[c % channels] += sums[c]


@njit(inline="always")
def _passed(grad: Any, z: Any, bottom: Any, top: Any) -> Any:
    """Return the gradient of a clip's input z: zero at the bounds and beyond them."""
    return np.float32(0) if (z <= bottom) | (z >= top) else grad


@compiled
def batch_terms(
    moments: tuple[Any, Any, Values, int],
    weight: Values,
    bias: Values,
    epsilon: float,
    momentum: float,
    running_mean: Values,
    running_variance: Values,
    terms: Values,
) -> None:
    """Write per-channel rows: a batch norm's mean, inverse deviation, scale and shift.

    The moments are the sum of distances from an origin, the sum of their squares, the origin and
    the number of pixels. Running moments are updated, the variance by its unbiased estimate.
    """
    total, squares, origin, pixels = moments
    for c in range(len(weight)):
        away = total[c] / pixels
        mean, variance = origin[c] + away, squares[c] / pixels - away * away
        variance = 0.0 if variance < 0 else variance
        inverse = 1 / np.sqrt(variance + epsilon)
        terms[0, c], terms[1, c] = mean, inverse
        terms[2, c], terms[3, c] = weight[c] * inverse, bias[c] - mean * weight[c] * inverse
        running_mean[c] += momentum * (mean - running_mean[c])
        unbiased = variance * pixels / (pixels - 1)
        running_variance[c] += momentum * (unbiased - running_variance[c])


@compiled
def normalize(
    x: Stored,
    weight: Values,
    bias: Values,
    epsilon: float,
    low: float,
    high: float,
    momentum: float,
    running_mean: Values,
    running_variance: Values,
    y: Stored,
    terms: Values,
) -> None:
    """Apply batch normalization and a clip to x, and write the result to y.

    Rows (M, F * C) of F pixels are read from x and written to y. The other arrays have one value
    per channel. The terms (4, C) for `normalize_backward` are those of `batch_terms`.
    """
    rows, width = x.shape
    channels = len(weight)
    pixels = rows * (width // channels)
    # Distances from a first value: else a variance far below the squared mean would be lost.
    origin = np.empty(width, np.float32)
    for c in range(width):
        origin[c] = _read(x[0, c % channels])
    total, squares = np.zeros(width), np.zeros(width)
    part, square = np.empty(width, np.float32), np.empty(width, np.float32)
    for first in range(0, rows, _BLOCK):
        part[:] = 0
        square[:] = 0
        for m in range(first, min(rows, first + _BLOCK)):
            for c in range(width):
                distance = _read(x[m, c]) - origin[c]
                part[c] += distance
                square[c] += distance * distance
        for c in range(width):
            total[c] += part[c]
            squares[c] += square[c]
    _add_pixels(total, channels)
    _add_pixels(squares, channels)
    moments = total, squares, origin, pixels
    batch_terms(moments, weight, bias, epsilon, momentum, running_mean, running_variance, terms)
    scale, shift = _tiled(terms[2], width), _tiled(terms[3], width)
    bottom, top = np.float32(low), np.float32(high)
    for m in range(rows):
        for c in range(width):
            z = _read(x[m, c]) * scale[c] + shift[c]
            y[m, c] = _written(bottom if z < bottom else (top if z > top else z), y)


@compiled
def normalize_backward(
    x: Stored, grad: Stored, terms: Values, low: float, high: float, x_grad: Stored, grads: Values
) -> None:
    """Write the gradient of x, and those of weight and bias to `grads` (2, C).

    Let dz be the gradient before the clip, and n = (x - mean) * inverse. The gradient of the bias
    is the sum of dz, that of the weight the sum of dz * n, and that of x is
    weight * inverse * (dz - mean of dz - n * mean of dz * n) (arXiv 1502.03167, section 3).
    """
    rows, width = x.shape
    channels = terms.shape[1]
    pixels = rows * (width // channels)
    mean, scale, shift = (
        _tiled(terms[0], width),
        _tiled(terms[2], width),
        _tiled(terms[3], width),
    )
    bottom, top = np.float32(low), np.float32(high)
    total, products = np.zeros(width), np.zeros(width)
    part, product = np.empty(width, np.float32), np.empty(width, np.float32)
    for first in range(0, rows, _BLOCK):
        part[:] = 0
        product[:] = 0
        for m in range(first, min(rows, first + _BLOCK)):
            for c in range(width):
                value = _read(x[m, c])
                z = value * scale[c] + shift[c]
                passed = _passed(_read(grad[m, c]), z, bottom, top)
                part[c] += passed
                product[c] += passed * (value - mean[c])
        for c in range(width):
            total[c] += part[c]
            products[c] += product[c]
    _add_pixels(total, channels)
    _add_pixels(products, channels)
    for c in range(channels):
        grads[0, c], grads[1, c] = products[c] * terms[1, c], total[c]
    slope, offset = np.empty(width, np.float32), np.empty(width, np.float32)
    for c in range(width):
        of = c % channels
        slope[c] = -scale[c] * terms[1, of] * grads[0, of] / pixels
        offset[c] = -scale[c] * grads[1, of] / pixels
    for m in range(rows):
        for c in range(width):
            value = _read(x[m, c])
            z = value * scale[c] + shift[c]
            passed = _passed(_read(grad[m, c]), z, bottom, top)
            through_sums = slope[c] * (value - mean[c]) + offset[c]
            x_grad[m, c] = _written(scale[c] * passed + through_sums, x_grad)


@compiled
def filter_gradient(
    x: Stored, grad: Stored, stride: tuple[int, int], padding: tuple[int, int], out: Values
) -> None:
    """Write the gradient of a depthwise convolution's filters to `out` (kh, kw, C).

    `x` is the input (N, H, W, C) of the convolution, `grad` the gradient of its output.
    """
    images, height, width, channels = x.shape
    _, out_height, out_width, _ = grad.shape
    kh, kw, _ = out.shape
    out[:] = 0
    for n in range(images):
        for i in range(out_height):
            for a in range(kh):
                row = i * stride[0] + a - padding[0]
                if row < 0 or row >= height:
                    continue
                for j in range(out_width):
                    for b in range(kw):
                        column = j * stride[1] + b - padding[1]
                        if column < 0 or column >= width:
                            continue
                        for c in range(channels):
                            out[a, b, c] += _read(x[n, row, column, c]) * _read(grad[n, i, j, c])


@njit(inline="always")
def _add_row_gradient(
    grad: Any, n: int, i: int, weight: Values, a: int, stride: int, padding: int, line: Values
) -> None:
    """Add one output row's gradient, through one row of filters, to an input row (W, C).

    The output row is row `i` of image `n`; the filters' row is `a`.
    """
    width, channels = line.shape
    for j in range(grad.shape[2]):
        for b in range(weight.shape[1]):
            column = j * stride + b - padding
            if column < 0 or column >= width:
                continue
            for c in range(channels):
                line[column, c] += _read(grad[n, i, j, c]) * weight[a, b, c]


@compiled
def input_gradient(
    grad: Stored, weight: Values, stride: tuple[int, int], padding: tuple[int, int], out: Stored
) -> None:
    """Write the gradient of a depthwise convolution's input to `out` (N, H, W, C).

    `grad` is the gradient of its output, `weight` are the filters (kh, kw, C).
    """
    images, height, width, channels = out.shape
    out_height, kh = grad.shape[1], len(weight)
    line = np.empty((width, channels), np.float32)
    for n in range(images):
        for row in range(height):
            line[:] = 0
            for a in range((row + padding[0]) % stride[0], kh, stride[0]):
                i = (row + padding[0] - a) // stride[0]
                if 0 <= i < out_height:
                    _add_row_gradient(grad, n, i, weight, a, stride[1], padding[1], line)
            for column in range(width):
                for c in range(channels):
                    out[n, row, column, c] = _written(line[column, c], out)
