"""Kernels of a chain for pointwise convolutions: matrix products of blocks of pixels."""

from __future__ import annotations

import numpy as np

from mbsearch.accel.kernels.jit import Moments, Values, compiled, inner
from mbsearch.accel.kernels.passes import (
    CACHED,
    Settings,
    activation_backward,
    add_and_clear,
    add_moments,
    norm_backward,
    norm_coefficients,
    read_values,
    repeated,
    row_width,
    write_terms,
)
from mbsearch.accel.kernels.products import add_weight_gradient, multiply, multiply_backward

# Fewest pixels of a matrix product; with fewer its fixed cost would dominate.
_LEAST_PIXELS = 512


@inner
def pixels_per_block(pixels: int, c_in: int, c_out: int) -> int:
    """Return the number of pixels whose inputs and outputs together fit into the cache."""
    return min(pixels, max(_LEAST_PIXELS, CACHED // (c_in + c_out)))


@compiled
def pointwise(
    x: Values,
    terms: Values,
    weight: Values,
    scale: Values,
    shift: Values,
    running: tuple[Values, Values],
    settings: Settings,
    z: Values,
    z_terms: Values,
) -> None:
    """Convolve x (M, K) with pointwise weights (N, K), and write the result to z (M, N).

    Each row is a pixel. The terms of the batch norm and activation are written to z_terms (6, N).
    Moments are taken about an origin near the map: else a variance far below the squared mean would
    be lost.
    """
    pixels, c_in = x.shape
    c_out = len(weight)
    rows = pixels_per_block(pixels, c_in, c_out)
    y, wide = np.empty((rows, c_in), np.float32), repeated(terms)
    flat, flat_y, flat_z = x.reshape(-1), y.reshape(-1), z.reshape(-1)
    width = row_width(c_out)
    part, square = np.zeros(width, np.float32), np.zeros(width, np.float32)
    around, sums = np.empty(width, np.float32), np.zeros((2, c_out))
    for first in range(0, pixels, rows):
        count = min(rows, pixels - first)
        if terms.shape[1] == 0:
            multiply(x[first : first + count], weight, z[first : first + count])
        else:
            read_values(flat, first * c_in, count * c_in, wide, flat_y, 0)
            multiply(y[:count], weight, z[first : first + count])
        if first == 0:
            for t in range(width):
                around[t] = z[0, t % c_out]
        add_moments(flat_z, first * c_out, count * c_out, around, part, square)
        add_and_clear(part, sums[0])
        add_and_clear(square, sums[1])
    write_terms(sums, around, pixels, scale, shift, running, settings, z_terms)


@compiled
def pointwise_backward(
    grad: Values,
    z: Values,
    z_terms: Values,
    z_sums: Moments,
    x: Values,
    terms: Values,
    weight: Values,
    x_grad: Values,
    weight_grad: Values,
    norm_grads: Values,
    sums: Moments,
) -> None:
    """Write the gradients of input, weights, scale and shift of `pointwise` and its batch norm.

    `grad` is the gradient of the normalized z, and z_sums are its `norm_sums`. If x has terms,
    x_grad is the gradient before the activation of x, and sums are the `norm_sums` of x.
    """
    pixels, c_in = x.shape
    c_out = len(weight)
    rows = pixels_per_block(pixels, c_in, c_out)
    y, z_grad = np.empty((rows, c_in), np.float32), np.empty((rows, c_out), np.float32)
    flat, flat_grad, flat_z = x.reshape(-1), grad.reshape(-1), z.reshape(-1)
    flat_y, flat_x_grad, flat_z_grad = y.reshape(-1), x_grad.reshape(-1), z_grad.reshape(-1)
    wide, wide_back = repeated(terms), norm_coefficients(z_terms, z_sums, pixels, norm_grads)
    width = wide.shape[1]
    part, product = np.zeros(width, np.float32), np.zeros(width, np.float32)
    weight_grad[:] = 0
    for first in range(0, pixels, rows):
        count = min(rows, pixels - first)
        norm_backward(flat_grad, flat_z, first * c_out, count * c_out, wide_back, flat_z_grad, 0)
        if terms.shape[1] == 0:
            add_weight_gradient(z_grad[:count], x[first : first + count], weight_grad)
        else:
            read_values(flat, first * c_in, count * c_in, wide, flat_y, 0)
            add_weight_gradient(z_grad[:count], y[:count], weight_grad)
        multiply_backward(z_grad[:count], weight, x_grad[first : first + count])
        if terms.shape[1] > 0:
            activation_backward(
                flat_x_grad, first * c_in, count * c_in, flat_y, 0, flat, wide, part, product
            )
            add_and_clear(part, sums[0])
            add_and_clear(product, sums[1])
