"""Batch norms and activations of a chain: what stands between its convolutions."""

from __future__ import annotations

import numpy as np

from mbsearch.accel.kernels.jit import Moments, Values, compiled
from mbsearch.accel.kernels.passes import (
    CACHED,
    LEAST,
    MOST,
    Settings,
    add_moments,
    add_products,
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


@compiled
def start(
    z: Values,
    scale: Values,
    shift: Values,
    running: tuple[Values, Values],
    settings: Settings,
    z_terms: Values,
) -> None:
    """Write to z_terms (6, C) what a batch norm and activation will do to a map z (M, C)."""
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
        drain(part, sums[0])
        drain(square, sums[1])
    normed(sums, around, pixels, scale, shift, running, settings, z_terms)


@compiled
def start_back(
    grad: Values, z: Values, z_terms: Values, z_sums: Moments, z_grad: Values, norm_grads: Values
) -> None:
    """Gradients of what `start` starts with: of z, and of its batch norm's scale and shift.

    `grad` is that of the normalised z, and z_sums are its `norm_sums`.
    """
    back = norm_back(z_terms, z_sums, len(z), norm_grads)
    through_norm(grad.reshape(-1), z.reshape(-1), 0, z.size, back, z_grad.reshape(-1), 0)


@compiled
def activate(x: Values, terms: Values, y: Values) -> None:
    """Write to y what is seen of the map x."""
    see(x.reshape(-1), 0, x.size, widened(terms), y.reshape(-1), 0)


@compiled
def norm_sums(grad: Values, x: Values, terms: Values, passed: Values, sums: Moments) -> None:
    """Write to passed what the activation of x lets through of a gradient, and add it up.

    To sums (2, C) go its sum, and that of its product with the distance of x from its mean. Of no
    activation, passed is the gradient itself, which is only read then.
    """
    wide = widened(terms)
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
            see(flat, first, count, wide, y, 0)
            let_through(new, first, count, y, 0, flat, wide, part, product)
        drain(part, sums[0])
        drain(product, sums[1])
