"""Batch norms and activations of a chain: what stands between its convolutions."""

from __future__ import annotations

import numpy as np

from mbsearch.training.kernels.passes import (
    CACHED,
    LEAST,
    MOST,
    Moments,
    add_products,
    copy_values,
    drain,
    let_through,
    see,
    widened,
)
from mbsearch.training.kernels.steps import Values, compiled

# Compiled with what it is made of at 80c4c550a5cc.


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
