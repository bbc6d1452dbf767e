"""The information that a ReLU destroys in few dimensions (V2 paper, figure 1).

A spiral in the plane is embedded into n dimensions by a random matrix T, passed through a ReLU, and
mapped back by the pseudo-inverse of T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbsearch.analysis.intervals import Z_95, Interval

DIMENSIONS = (2, 3, 5, 15, 30)
"""The numbers of dimensions of the paper's figure."""
MATRICES = 1000
_POINTS, _TURNS = 240, 3

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReluLoss:
    """The loss in n dimensions, over random matrices.

    Attributes:
        dimensions: n.
        error: root mean square distance of the points from where they were, relative to the
            spiral's size, with the 95 % interval of its mean over matrices. The reconstruction is
            scaled to fit, because a ReLU halves it on average.
        unrecoverable: share of the points with fewer than two positive coordinates, which no
            function could map back.
    """

    dimensions: int
    error: Interval
    unrecoverable: float


def spiral() -> Array:
    """Return the points of a spiral around the origin, with shape (2, points)."""
    radius = np.linspace(0.02, 1, _POINTS)
    angle = 2 * math.pi * _TURNS * radius
    points: Array = radius * np.stack([np.cos(angle), np.sin(angle)])
    return points


def relu_losses(seed: int = 0) -> list[ReluLoss]:
    """Return the loss for each number of dimensions, over `MATRICES` random matrices."""
    points, matrices = spiral(), _matrices(seed, MATRICES)
    return [_loss(matrices[:, :n], points) for n in DIMENSIONS]


def reconstructed_spirals(seed: int = 0) -> dict[int, Array]:
    """Return the spiral after a random matrix, ReLU and the way back, by number of dimensions."""
    points, matrices = spiral(), _matrices(seed, 1)
    return {n: _mapped_back(matrices[:, :n], points)[0] for n in DIMENSIONS}


def _matrices(seed: int, count: int) -> Array:
    """Return matrices of normal random numbers; the first n rows embed into n dimensions."""
    return np.random.default_rng(seed).standard_normal((count, max(DIMENSIONS), 2))


def _loss(matrices: Array, points: Array) -> ReluLoss:
    embedded = matrices @ points
    distances = _mapped_back(matrices, points) - points
    errors = np.sqrt((distances**2).sum(axis=(1, 2)) / (points**2).sum())
    mean = float(errors.mean())
    half = Z_95 * float(errors.std(ddof=1)) / math.sqrt(len(errors))
    unrecoverable = float(((embedded > 0).sum(axis=1) < 2).mean())
    return ReluLoss(matrices.shape[1], Interval(mean, mean - half, mean + half), unrecoverable)


def _mapped_back(matrices: Array, points: Array) -> Array:
    """Return the points after each matrix, the ReLU and its pseudo-inverse, scaled to fit."""
    inverses: Array = np.linalg.pinv(matrices).astype(np.float64)
    back: Array = inverses @ np.maximum(matrices @ points, 0)
    fit = (back * points).sum(axis=(1, 2)) / (back**2).sum(axis=(1, 2))
    scaled: Array = back * fit[:, None, None]
    return scaled
