"""Standard error of an accuracy, over validation images and seeds.

The variance over images is binomial, p(1 - p)/n. The deviation over seeds is constant on the logit
scale, that is, sigma p(1 - p) on the scale of accuracies (delta method).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

SEED_DEVIATION = 0.1
"""Prior deviation over seeds on the logit scale: 0.9 points at an accuracy of 0.9."""
_LEAST_ACCURACY = 1e-3  # and its complement: accuracies are clipped for the logit
_PRIOR_DEGREES = 8.0  # of freedom: the prior weighs as much as 4 networks of 3 seeds
_CAP = 3.0  # a network's variance counts at most as this multiple of the pooled one
_LEAST_SHARE = 0.1  # of the prior deviation
# Trainings of one network misclassify the same difficult images. About this share of the binomial
# variance differs between trainings that are scored on the same images.
_UNSHARED = 0.5


def standard_error(accuracy: float, images: int, seed_logit_sd: float) -> float:
    """Return the standard error of an accuracy over images and seeds.

    Half a pseudo-image (Jeffreys) keeps the variance above 0 at accuracies of 0 and 1.
    """
    p = _inside(accuracy, images)
    return math.sqrt(p * (1 - p) / images + (seed_logit_sd * p * (1 - p)) ** 2)


def interval(
    accuracy: float, images: int, seed_logit_sd: float, level: float = 0.95
) -> tuple[float, float]:
    """Return the confidence interval of an accuracy over images and seeds, within [0, 1].

    Over images it is Wilson's (1927). Its distances from its centre are added in quadrature to
    those over seeds, on the logit scale.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    shrink = 1 / (1 + z**2 / images)
    centre = shrink * (accuracy + z**2 / (2 * images))
    half = shrink * z * math.sqrt(accuracy * (1 - accuracy) / images + z**2 / (4 * images**2))
    middle = _log_odds(centre)
    below = math.hypot(middle - _log_odds(max(centre - half, 0.0)), z * seed_logit_sd)
    above = math.hypot(_log_odds(min(centre + half, 1.0)) - middle, z * seed_logit_sd)
    return _expit(middle - below), _expit(middle + above)


def measured_interval(accuracy: float, images: int, deviation: float) -> tuple[float, float]:
    """Return the 95 % interval of a measured accuracy from its `standard_error`, inside [0, 1]."""
    p = _inside(accuracy, images)
    over_seeds = math.sqrt(max(0.0, deviation**2 - p * (1 - p) / images))
    return interval(accuracy, images, over_seeds / (p * (1 - p)))


def interval_of(accuracy: float, deviation: float) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy with a known standard deviation, within [0, 1].

    It is symmetric on the logit scale, where the deviation is divided by p(1 - p) (delta method).
    """
    if deviation <= 0:
        return accuracy, accuracy
    p = min(max(accuracy, _LEAST_ACCURACY), 1 - _LEAST_ACCURACY)
    half = NormalDist().inv_cdf(0.975) * deviation / (p * (1 - p))
    low, high = _expit(_log_odds(p) - half), _expit(_log_odds(p) + half)
    return min(low, accuracy), max(high, accuracy)


def pooled_seed_deviation(
    repeats: Sequence[Sequence[float]], images: int, prior: float = SEED_DEVIATION
) -> float:
    """Return the standard deviation over seeds (logit scale), pooled over networks.

    Args:
        repeats: accuracies of each network, one per seed; networks with one seed are ignored.
        images: number of images of each accuracy, the same for all.
        prior: the deviation without any repeats.
    """
    variances, degrees = [], []
    for accuracies in repeats:
        if len(accuracies) < 2:
            continue
        inside = [_inside(a, images) for a in accuracies]
        p = float(np.mean(inside))
        between = float(np.var([_log_odds(a) for a in inside], ddof=1))
        variances.append(between - _UNSHARED / (images * p * (1 - p)))
        degrees.append(len(accuracies) - 1)
    return pooled_deviation(variances, degrees, prior)


def pooled_deviation(
    variances: Sequence[float], degrees: Sequence[int], prior: float = SEED_DEVIATION
) -> float:
    """Return a standard deviation pooled robustly from variances and a prior.

    The pooled variance is the mean weighted by degrees of freedom, with a scaled inverse chi-square
    prior. Each variance is clipped at three times the pooled one (a Huber-type M-estimate), which
    is computed by iteration from the prior.
    """
    found, weights = np.array(variances, float), np.array(degrees, float)
    pooled, before, least = prior**2, 0.0, (_LEAST_SHARE * prior) ** 2
    while abs(pooled - before) > 1e-9 * before:  # monotone in the pooled variance: it converges
        before = pooled
        counted = float(weights @ np.minimum(found, _CAP * pooled))
        pooled = (_PRIOR_DEGREES * prior**2 + counted) / (_PRIOR_DEGREES + weights.sum())
        pooled = max(pooled, least)
    return math.sqrt(pooled)


def _log_odds(p: float) -> float:
    """Return the log odds of a probability, which are infinite at 0 and 1."""
    if p <= 0 or p >= 1:
        return math.copysign(math.inf, p - 0.5)
    return math.log(p / (1 - p))


def _expit(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def _inside(accuracy: float, images: int) -> float:
    return (accuracy * images + 0.5) / (images + 1)
