"""Predict long-training accuracy from short-training accuracy, and denoise accuracies by losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

_LEAST_PAIRS = 3
_LEAST_SPREAD = 0.01
_LEAST_SLOPE = 0.1  # a better short training never predicts a worse long one
# Mult-Adds a parameter of MobileNetV2 1.0 at 224 pixels (arXiv 1801.04381, table 4).
_REUSE_OF_V2 = 300 / 3.4
# Strength of the belief that a step of the logit stays as long as it was, in squared logits.
_RIDGE = 0.1


def logit(accuracy: float) -> float:
    """Log odds of an accuracy, which is kept off 0 and 1."""
    inside = min(max(accuracy, 1e-3), 1 - 1e-3)
    return math.log(inside / (1 - inside))


def accuracy_of(log_odds: float) -> float:
    """Inverse of `logit`."""
    return 1.0 / (1.0 + math.exp(-log_odds))


MOST = accuracy_of(logit(1.0))
"""The accuracy to which `logit` clips an accuracy of 1."""


def growth_of(costs: Mapping[str, int], rate: float) -> float:
    """Log odds of accuracy that a network will gain from a short training to a whole one.

    A short training flatters parameters: of two networks that end it alike, the one with more
    Mult-Adds a parameter is mostly the better in the end (docs/proxy.md). `rate` is what each
    e-fold of that ratio is worth. It is reckoned from MobileNetV2's, which gains 0.
    """
    return rate * math.log(costs["mult_adds"] / costs["params"] / _REUSE_OF_V2)


def grown(accuracy: float, growth: float) -> float:
    """The accuracy that has gained so many log odds."""
    return accuracy_of(logit(accuracy) + growth)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A straight line between the logits of accuracies after a short and a longer training.

    It goes through the mean of both, `middle` and `top`, with a `slope` that is mostly below 1:
    who learns slowly has more to gain. `spread` is the standard deviation of networks around it.
    """

    middle: float
    top: float
    slope: float
    spread: float

    @staticmethod
    def between(short: Sequence[float], long: Sequence[float]) -> Calibration | None:
        """From the accuracies of the same networks after either training; None of too few."""
        if len(short) < _LEAST_PAIRS:
            return None
        before, after = [logit(a) for a in short], [logit(a) for a in long]
        middle, top = fmean(before), fmean(after)
        pairs = [(x - middle, y - top) for x, y in zip(before, after, strict=True)]
        # Ridge regression of the gain, so that few or equal networks leave the slope at 1.
        gained = sum(x * (y - x) for x, y in pairs) / (sum(x * x for x, _ in pairs) + _RIDGE)
        slope = max(1 + gained, _LEAST_SLOPE)
        misses = sum((y - slope * x) ** 2 for x, y in pairs)
        spread = max(math.sqrt(misses / (len(pairs) - 2)), _LEAST_SPREAD)
        return Calibration(middle, top, slope, spread)

    def logit_of(self, accuracy: float) -> float:
        """Predicted logit after the longer training."""
        return self.top + self.slope * (logit(accuracy) - self.middle)

    def of(self, accuracy: float) -> float:
        """Predicted accuracy after the longer training."""
        return accuracy_of(self.logit_of(accuracy))


def denoised(accuracies: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Average accuracies of one kind of training with those predicted from validation losses.

    The loss, a mean cross-entropy in nats, does not count images as right or wrong, and so is less
    noisy. The prediction is a line between the logits of the accuracy and of exp(-loss).
    """
    likelihoods = [math.exp(-loss) for loss in losses]
    line = Calibration.between(likelihoods, accuracies)
    if line is None:
        return list(accuracies)
    pairs = zip(likelihoods, accuracies, strict=True)
    return [accuracy_of((line.logit_of(p) + logit(accuracy)) / 2) for p, accuracy in pairs]
