"""Kernels of a chain for batch normalization and activation."""

from __future__ import annotations

import numpy as np

from mbsearch.accel.kernels.jit import Moments, Values, compiled
from mbsearch.accel.kernels.passes import (
    CACHED,
    LEAST,
    MOST,
    Settings,
    activation_backward,
    add_and_clear,
    add_moments,
    add_products,
    copy_values,
    norm_backward,
    norm_coefficients,
    read_values,
    repeated,
    row_width,
    write_terms,
)


@compiled
def start(
    z: Values,
    scale: Values,
    shift: Values,
    running: tuple[Values, Values],
    settings: Settings,
    z_terms: Values,
) -> None:
    """Compute the terms (6, C) that normalize and activate a map z (M, C)."""
    pixels, channels = z.shape
    rows = max(1, CACHED // channels)
    width, flat = row_width(channels), z.reshape(-1)
    part, square = np.zeros(width, np.float32), np.zeros(width, np.float32)
    around, sums = np.empty(width, np.float32), np.zeros((2, channels))
    for t in range(width):
        around[t] = z[0, t % channels]
    for first in range(0, pixels, rows):
        count = min(rows, pixels - first)
        add_moments(flat, first * channels, count * channels, around, part, square)
        add_and_clear(part, sums[0])
        add_and_clear(square, sums[1])
    write_terms(sums, around, pixels, scale, shift, running, settings, z_terms)


@compiled
def start_backward(
    grad: Values, z: Values, z_terms: Values, z_sums: Moments, z_grad: Values, norm_grads: Values
) -> None:
    """Write the gradients of z and of its batch norm's scale and shift; see `start`.

    `grad` is the gradient of the normalized z, and z_sums are its `norm_sums`.
    """
    back = norm_coefficients(z_terms, z_sums, len(z), norm_grads)
    norm_backward(grad.reshape(-1), z.reshape(-1), 0, z.size, back, z_grad.reshape(-1), 0)


@compiled
def activate(x: Values, terms: Values, y: Values) -> None:
    """Normalize and activate the map x by its terms (see `start`), and write y."""
    read_values(x.reshape(-1), 0, x.size, repeated(terms), y.reshape(-1), 0)


@compiled
def norm_sums(grad: Values, x: Values, terms: Values, passed: Values, sums: Moments) -> None:
    """Write the gradient at the activation's input to `passed`, and two sums per channel.

    The `sums` (2, C) are those of the gradient, and of its product with the distance of x from its
    mean. Without an activation, `passed` is the array `grad` itself, which is only read.
    """
    wide = repeated(terms)
    width = wide.shape[1]
    part, product = np.zeros(width, np.float32), np.zeros(width, np.float32)
    step = max(1, CACHED // width) * width
    y = np.empty(step, np.float32)
    flat, old, new = x.reshape(-1), grad.reshape(-1), passed.reshape(-1)
    everything = terms[LEAST, 0] == -np.inf and terms[MOST, 0] == np.inf
    for first in range(0, len(flat), step):
        count = min(step, len(flat) - first)
        if everything:
            add_products(old, first, count, flat, wide, part, product)
        else:
            copy_values(old, first, count, new, first)
            read_values(flat, first, count, wide, y, 0)
            activation_backward(new, first, count, y, 0, flat, wide, part, product)
        add_and_clear(part, sums[0])
        add_and_clear(product, sums[1])
