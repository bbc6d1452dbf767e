"""Batch norms and activations of a chain: what stands between its convolutions."""

from __future__ import annotations

import numpy as np

from mbsearch.training.kernels.passes import (
    CACHED,
    INVERSE,
    MEAN,
    SCALE,
    Moments,
    copy_values,
    drain,
    let_through,
    see,
    widened,
)
from mbsearch.training.kernels.steps import Values, compiled

# Compiled with what it is made of at cb089981a70b.


@compiled
def activate(x: Values, terms: Values, y: Values) -> None:
    """Write to y what is seen of the map x."""
    see(x.reshape(-1), 0, x.size, widened(terms), y.reshape(-1), 0)


@compiled
def norm_sums(grad: Values, x: Values, terms: Values, passed: Values, sums: Moments) -> None:
    """Write to passed what the activation of x lets through of a gradient, and add it up.

    To sums (2, C) go its sum, and that of its product with the distance of x from its mean.
    """
    wide = widened(terms)
    width = wide.shape[1]
    part, product = np.zeros(width, np.float32), np.zeros(width, np.float32)
    step = max(1, CACHED // width) * width
    y = np.empty(step, np.float32)
    flat, old, new = x.reshape(-1), grad.reshape(-1), passed.reshape(-1)
    for first in range(0, len(flat), step):
        count = min(step, len(flat) - first)
        copy_values(old, first, count, new, first)
        see(flat, first, count, wide, y, 0)
        let_through(new, first, count, y, 0, flat, wide, part, product)
        drain(part, sums[0])
        drain(product, sums[1])


@compiled
def norm_back(terms: Values, sums: Moments, pixels: int, back: Values, grads: Values) -> None:
    """Fill what takes the gradient of a normalised map back to that of the map z.

    With dy the gradient, n = (z - mean) * inverse, and the sums of `norm_sums`: the bias has the
    sum of dy, the weight the sum of dy * n, both in grads (2, C), weight first; and z has
    scale * (dy - mean of dy - n * mean of dy * n) (arXiv 1502.03167, section 3). To back (4, C) go
    the mean, the factor of dy, the factor of z - mean, and the offset.
    """
    for c in range(terms.shape[1]):
        scale, inverse = terms[SCALE, c], terms[INVERSE, c]
        grads[0, c], grads[1, c] = sums[1, c] * inverse, sums[0, c]
        back[0, c], back[1, c] = terms[MEAN, c], scale
        back[2, c] = -scale * inverse * grads[0, c] / pixels
        back[3, c] = -scale * grads[1, c] / pixels
