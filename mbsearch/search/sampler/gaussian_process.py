"""Gaussian process that predicts accuracy from what is known of a network before training.

Accuracy is first warped to -log(ceiling - accuracy): differences near the ceiling get more weight,
and the noise becomes more even. The ceiling is chosen by likelihood, so that accuracies in per cent
and other scores work too.

The kernel is a Matern 5/2 whose length scale differs between groups of columns, with a fitted noise
term. All are found by maximum a posteriori with analytic gradients (Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006, section 5.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

Array = NDArray[np.float64]

SQRT_5 = math.sqrt(5.0)
JITTER = 1e-8
# Log-normal priors: median and spread of the variances of signal and noise (the warped accuracy has
# variance 1), and the spread of the length scales, whose medians are in `Columns`.
SIGNAL_PRIOR = (1.0, 1.0)
NOISE_PRIOR = (0.01, 1.5)
LENGTH_SPREAD = 0.8
# Distances of the ceiling from the best accuracy, in units of the range of accuracies.
CEILINGS = (0.1, 0.2, 0.4, 0.8, 1.6, math.inf)


@dataclass(frozen=True, slots=True)
class Columns:
    """The group of each input column, and the prior median of each group's length scale."""

    group: NDArray[np.intp]
    length: Array


@dataclass(frozen=True, slots=True)
class Warp:
    """Monotone transformation of accuracies to a standardised scale with roughly even noise.

    An infinite `ceiling` means that accuracy is only standardised.
    """

    ceiling: float
    mean: float
    scale: float

    @classmethod
    def fit(cls, accuracy: Array, ceiling: float) -> Warp:
        """Return the transformation with this ceiling, fitted to accuracies."""
        raw = accuracy if math.isinf(ceiling) else -np.log(ceiling - accuracy)
        return cls(ceiling, float(np.mean(raw)), float(np.std(raw)) or 1.0)

    def forward(self, accuracy: Array) -> Array:
        """Transform accuracies; those above the ceiling are clipped to just below it."""
        if math.isinf(self.ceiling):
            return (accuracy - self.mean) / self.scale
        gap = np.maximum(self.ceiling - accuracy, 1e-9 * max(1.0, abs(self.ceiling)))
        return np.asarray((-np.log(gap) - self.mean) / self.scale)

    def backward(self, warped: Array) -> Array:
        """Transform values back to accuracies."""
        raw = self.mean + self.scale * warped
        return raw if math.isinf(self.ceiling) else self.ceiling - np.exp(-raw)

    def log_slope(self, accuracy: Array) -> float:
        """Return the sum over accuracies of the log derivative of the transformation.

        Likelihoods under different ceilings are comparable after adding it.
        """
        if math.isinf(self.ceiling):
            return -len(accuracy) * math.log(self.scale)
        gaps = np.log(self.ceiling - accuracy)
        return float(-np.sum(gaps) - len(accuracy) * math.log(self.scale))

    def slope(self, accuracy: Array) -> Array:
        """Return the derivative of the transformation at each accuracy."""
        if math.isinf(self.ceiling):
            return np.full(len(accuracy), 1 / self.scale)
        gap = np.maximum(self.ceiling - accuracy, 1e-9 * max(1.0, abs(self.ceiling)))
        return np.asarray(1 / (gap * self.scale))

    def expected_excess(self, mean: Array, deviation: Array, level: Array) -> Array:
        """Return E[max(0, A - level)] for accuracies A whose transformed value is normal.

        `mean` and `deviation` are those of the transformed value, `level` is an accuracy. The three
        are broadcast. The closed form is the normal one without a ceiling, the log-normal one with
        a ceiling.
        """
        sigma = np.maximum(deviation * self.scale, 1e-12)
        centre = self.mean + self.scale * mean
        if math.isinf(self.ceiling):
            z = (centre - level) / sigma
            density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
            return np.asarray(np.maximum(0.0, sigma * (density + z * ndtr(z))))
        gap = np.maximum(self.ceiling - level, 1e-300)
        z = (centre + np.log(gap)) / sigma
        expected_gap = np.exp(np.minimum(700.0, 0.5 * sigma * sigma - centre))
        return np.asarray(np.maximum(0.0, gap * ndtr(z) - expected_gap * ndtr(z - sigma)))


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Natural logarithms of signal variance, noise variance and each group's length scale."""

    log_signal: float
    log_noise: float
    log_length: Array


def fit(
    inputs: Array, columns: Columns, accuracy: Array, deviation: Array | None = None
) -> tuple[Hyperparameters, Warp]:
    """Return the most probable hyperparameters and warp for accuracies at `inputs` (n, columns).

    `deviation` is the standard deviation of each accuracy's own noise, in addition to the common
    noise.
    """
    deviation = np.zeros(len(accuracy)) if deviation is None else deviation
    top, spread = float(np.max(accuracy)), float(np.ptp(accuracy))
    ceilings = [math.inf]
    if spread > 1e-9 * max(1.0, abs(top)):  # else they are equal up to rounding
        ceilings = [top + gap * spread for gap in CEILINGS]
    warp = Warp.fit(accuracy, ceilings[len(ceilings) // 2])
    theta = np.concatenate([np.log([SIGNAL_PRIOR[0], NOISE_PRIOR[0]]), np.log(columns.length)])
    for _ in range(2):
        result = minimize(
            negative_log_posterior,
            theta,
            args=(inputs, columns, warp.forward(accuracy), own_noise(warp, accuracy, deviation)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-6.0, 4.0), (-14.0, 2.0)] + [(-4.0, 6.0)] * len(columns.length),
            options={"maxiter": 40},
        )
        theta = result.x
        chosen = _likeliest_ceiling(_unpack(theta), inputs, columns, accuracy, deviation, ceilings)
        if chosen == warp:
            break
        warp = chosen
    return _unpack(theta), warp


def own_noise(warp: Warp, accuracy: Array, deviation: Array) -> Array:
    """Return noise variances on the transformed scale, from accuracies' standard deviations.

    Each is at most the variance of all accuracies together, on either scale: where the
    transformation is steep, its derivative overstates the noise.
    """
    return np.asarray(np.minimum(warp.slope(accuracy) * deviation, 1.0) ** 2)


def negative_log_posterior(
    theta: Array, inputs: Array, columns: Columns, warped: Array, own: Array | float = 0.0
) -> tuple[float, Array]:
    """Return the negative log posterior of the hyperparameters, and its gradient.

    The vector `theta` has log signal, log noise and log lengths. `own` are variances of noise that
    each observation has in addition to the common noise.
    """
    parameters = _unpack(theta)
    distances = _squared_distances(inputs, inputs, columns, parameters)
    signal, slope = _matern_and_slope(distances, parameters)
    noise = math.exp(parameters.log_noise)
    n = len(warped)
    factor = cholesky(signal + np.diag(np.broadcast_to(noise + JITTER + own, n)), lower=True)
    weights = cho_solve((factor, True), warped)
    surplus = cho_solve((factor, True), np.eye(n)) - np.outer(weights, weights)
    value = 0.5 * warped @ weights + np.sum(np.log(np.diag(factor)))

    gradient = np.empty_like(theta)
    gradient[0] = 0.5 * np.sum(surplus * signal)
    gradient[1] = 0.5 * noise * np.trace(surplus)
    # d kernel / d log length = -2 slope * squared distance of that group, so that the n x n
    # distances of single columns need never be held: sum_ij M_ij (x_i - x_j)^2 = 2 (r.x^2 - x.Mx).
    pull = surplus * slope
    scaled = inputs * np.exp(-parameters.log_length)[columns.group]
    per_column = 2.0 * (pull.sum(axis=1) @ scaled**2 - np.sum(scaled * (pull @ scaled), axis=0))
    per_group = np.bincount(columns.group, weights=per_column, minlength=len(columns.length))
    gradient[2:] = -per_group

    centre = np.concatenate([np.log([SIGNAL_PRIOR[0], NOISE_PRIOR[0]]), np.log(columns.length)])
    spread = np.full_like(theta, LENGTH_SPREAD)
    spread[:2] = SIGNAL_PRIOR[1], NOISE_PRIOR[1]
    value += 0.5 * np.sum(((theta - centre) / spread) ** 2)
    gradient += (theta - centre) / spread**2
    return float(value), gradient


class Posterior:
    """Gaussian process conditioned on transformed accuracies, with fixed hyperparameters."""

    def __init__(
        self,
        inputs: Array,
        columns: Columns,
        warped: Array,
        parameters: Hyperparameters,
        own: Array | None = None,
    ) -> None:
        self._inputs, self._columns, self._warped = inputs, columns, warped
        self._parameters = parameters
        self._own = np.zeros(len(warped)) if own is None else own
        signal = _matern(_squared_distances(inputs, inputs, columns, parameters), parameters)
        noise = math.exp(parameters.log_noise) + JITTER
        self._factor = cholesky(signal + np.diag(noise + self._own), lower=True)
        self._weights = cho_solve((self._factor, True), warped)

    @property
    def noise(self) -> float:
        """Standard deviation of one observation's noise, on the transformed scale."""
        return math.exp(0.5 * self._parameters.log_noise)

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of the noise-free transformed accuracy at `inputs`."""
        distances = _squared_distances(self._inputs, inputs, self._columns, self._parameters)
        cross = _matern(distances, self._parameters)
        explained = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        variance = math.exp(self._parameters.log_signal) - np.einsum(
            "ij,ij->j", explained, explained
        )
        return cross.T @ self._weights, np.sqrt(np.maximum(variance, 1e-12))

    def with_pending(self, inputs: Array) -> Posterior:
        """Return the posterior conditioned also on its own means at `inputs` (kriging believer)."""
        if len(inputs) == 0:
            return self
        mean, _ = self.predict(inputs)
        return Posterior(
            np.vstack([self._inputs, inputs]),
            self._columns,
            np.concatenate([self._warped, mean]),
            self._parameters,
            np.concatenate([self._own, np.zeros(len(inputs))]),
        )

    def correlation(self, inputs: Array, others: Array) -> Array:
        """Return prior correlations (n, m) between accuracies at `inputs` and at `others`."""
        distances = _squared_distances(inputs, others, self._columns, self._parameters)
        return _matern(distances, self._parameters) / math.exp(self._parameters.log_signal)


def _likeliest_ceiling(
    parameters: Hyperparameters,
    inputs: Array,
    columns: Columns,
    accuracy: Array,
    deviation: Array,
    ceilings: list[float],
) -> Warp:
    signal = _matern(_squared_distances(inputs, inputs, columns, parameters), parameters)
    noise = math.exp(parameters.log_noise) + JITTER
    plain = cholesky(signal + noise * np.eye(len(accuracy)), lower=True)

    def log_likelihood(warp: Warp) -> float:
        factor, penalty = plain, 0.0
        if deviation.any():
            own = own_noise(warp, accuracy, deviation)
            factor = cholesky(signal + np.diag(noise + own), lower=True)
            penalty = float(np.sum(np.log(np.diag(factor))))
        whitened = solve_triangular(factor, warp.forward(accuracy), lower=True)
        # The best overall scale of each ceiling is profiled out, so none is favoured by its units.
        variance = float(whitened @ whitened) / len(accuracy)
        return warp.log_slope(accuracy) - 0.5 * len(accuracy) * math.log(variance) - penalty

    warps = [Warp.fit(accuracy, ceiling) for ceiling in ceilings]
    return max(warps, key=log_likelihood) if len(warps) > 1 else warps[0]


def _unpack(theta: Array) -> Hyperparameters:
    return Hyperparameters(float(theta[0]), float(theta[1]), theta[2:])


def _squared_distances(a: Array, b: Array, columns: Columns, parameters: Hyperparameters) -> Array:
    scale = np.exp(-parameters.log_length)[columns.group]
    a, b = a * scale, b * scale
    squares = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1) - 2.0 * (a @ b.T)
    return np.asarray(np.maximum(squares, 0.0))


def _matern(squared: Array, parameters: Hyperparameters) -> Array:
    """Return the Matern 5/2 covariance for squared distances."""
    root = SQRT_5 * np.sqrt(squared)
    return np.asarray((1.0 + root + root * root / 3.0) * _decay(root, parameters))


def _matern_and_slope(squared: Array, parameters: Hyperparameters) -> tuple[Array, Array]:
    """Return the Matern 5/2 covariance and its derivative with respect to squared distance."""
    root = SQRT_5 * np.sqrt(squared)
    decay = _decay(root, parameters)
    slope = -(5.0 / 6.0) * (1.0 + root) * decay
    return np.asarray((1.0 + root + root * root / 3.0) * decay), np.asarray(slope)


def _decay(root: Array, parameters: Hyperparameters) -> Array:
    return np.asarray(math.exp(parameters.log_signal) * np.exp(-root))
