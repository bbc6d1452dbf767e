"""Calibrate accuracies of short trainings to longer ones, and denoise them by the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mbsearch.study.log_odds import accuracy_of, logit

Array = NDArray[np.float64]

LEAST_PAIRS = 3
"""Number of networks with both trainings that a prediction needs."""

_LEAST_SPREAD = 0.01
_LEAST_SLOPE = 0.1  # a better short training predicts no worse long one
# Mult-Adds a parameter of MobileNetV2 1.0 at 224 pixels (arXiv 1801.04381, table 4).
_REUSE_OF_V2 = 300 / 3.4
# Prior of `GainModel`: standard deviations in logits, and its weight in residuals.
_SLOPE, _EFFECT, _RESIDUAL, _PSEUDO_PAIRS = 0.5, 0.2, 0.25, 3
_EM_STEPS = 30
_LEAST_FEATURE_SPREAD = 1e-9
# Strength of the prior that the slope is 1, in squared logits.
_RIDGE = 0.1


def long_training_gain(costs: Mapping[str, int], rate: float) -> float:
    """Return the predicted gain in log odds of accuracy from short to long training.

    A short training overestimates networks with many parameters: at equal accuracy after it, the
    network with more Mult-Adds per parameter is usually better after a long training
    (docs/proxy.md). `rate` is the gain per e-fold of that ratio, relative to MobileNetV2's.
    """
    return rate * math.log(costs["mult_adds"] / costs["params"] / _REUSE_OF_V2)


def add_gain(accuracy: float, gain: float) -> float:
    """Return an accuracy increased by a gain in log odds."""
    return accuracy_of(logit(accuracy) + gain)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A linear fit from the logit of short-training accuracy to that of long training.

    It passes through the means of both, `middle` and `top`. The `slope` is usually below 1, because
    slowly learning networks gain more. `spread` is the standard deviation of networks around it.
    """

    middle: float
    top: float
    slope: float
    spread: float

    @staticmethod
    def between(short: Sequence[float], long: Sequence[float]) -> Calibration | None:
        """Return the fit to paired accuracies of networks; None for fewer than three networks."""
        if len(short) < LEAST_PAIRS:
            return None
        before, after = [logit(a) for a in short], [logit(a) for a in long]
        middle, top = fmean(before), fmean(after)
        pairs = [(x - middle, y - top) for x, y in zip(before, after, strict=True)]
        # Ridge regression of the gain: with few or equal networks the slope stays at 1.
        gained = sum(x * (y - x) for x, y in pairs) / (sum(x * x for x, _ in pairs) + _RIDGE)
        slope = max(1 + gained, _LEAST_SLOPE)
        misses = sum((y - slope * x) ** 2 for x, y in pairs)
        spread = max(math.sqrt(misses / (len(pairs) - 2)), _LEAST_SPREAD)
        return Calibration(middle, top, slope, spread)

    def logit_of(self, accuracy: float) -> float:
        """Predict the logit of long-training accuracy from short-training accuracy."""
        return self.top + self.slope * (logit(accuracy) - self.middle)

    def of(self, accuracy: float) -> float:
        """Predict long-training accuracy from short-training accuracy."""
        return accuracy_of(self.logit_of(accuracy))


@dataclass(frozen=True, slots=True)
class GainModel:
    """Bayesian linear regression of long-training logits on short-training logits and features.

    With x the centred logit of the shorter training and z standardised features of the network,

        longer = intercept + slope * x + effects . z + residual,

    where slope ~ N(1, 0.5^2), each effect ~ N(0, 0.2^2), and the variance of the residual is found
    by expectation maximisation, with a prior of three residuals of 0.25. With few pairs the slope
    stays near 1; many clear pairs may reverse its sign. `deviation` is the residual's standard
    deviation (Bishop, "Pattern Recognition and Machine Learning", 2006, section 9.3.4).
    """

    middle: float
    centre: Array
    scale: Array
    intercept: float
    slope: float
    effects: Array
    deviation: float

    @staticmethod
    def fit(short: Array, longer: Array, features: Array, population: Array) -> GainModel | None:
        """Return the model fitted to logits (n,) and features (n, f), or None if n is below three.

        `population` are the features (m, f) of all networks, which define the scale.
        """
        count = len(short)
        if count < LEAST_PAIRS:
            return None
        spread = np.std(population, axis=0)
        scale = np.where(spread > _LEAST_FEATURE_SPREAD, spread, np.inf)
        middle, centre = float(np.mean(short)), np.mean(features, axis=0)
        inputs = np.column_stack([short - middle, (features - centre) / scale])
        gain = longer - short
        target = gain - np.mean(gain)
        precision = np.full(inputs.shape[1], _EFFECT**-2)
        precision[0] = _SLOPE**-2
        variance = _RESIDUAL**2
        weights = np.zeros(inputs.shape[1])
        for _ in range(_EM_STEPS):
            covariance = np.linalg.inv(inputs.T @ inputs / variance + np.diag(precision))
            weights = covariance @ inputs.T @ target / variance
            misses = float(np.sum((target - inputs @ weights) ** 2))
            doubt = float(np.einsum("ij,jk,ik->", inputs, covariance, inputs))
            variance = (_PSEUDO_PAIRS * _RESIDUAL**2 + misses + doubt) / (_PSEUDO_PAIRS + count)
        return GainModel(
            middle=middle,
            centre=centre,
            scale=scale,
            intercept=float(np.mean(longer)),
            slope=1 + float(weights[0]),
            effects=weights[1:],
            deviation=math.sqrt(variance),
        )

    def predict(self, short: Array, features: Array) -> Array:
        """Predict logits after the longer training from short-training logits and features."""
        standard = (features - self.centre) / self.scale
        return np.asarray(
            self.intercept + self.slope * (short - self.middle) + standard @ self.effects
        )


def denoised(accuracies: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Return accuracies, each averaged with a prediction from the network's validation loss.

    The loss, a mean cross-entropy in nats, is less noisy than the accuracy. The prediction is a
    line between the logits of the accuracy and of exp(-loss).
    """
    likelihoods = [math.exp(-loss) for loss in losses]
    line = Calibration.between(likelihoods, accuracies)
    if line is None:
        return list(accuracies)
    pairs = zip(likelihoods, accuracies, strict=True)
    return [accuracy_of((line.logit_of(p) + logit(accuracy)) / 2) for p, accuracy in pairs]
