"""Paired comparison of accuracies on the same images, with intervals over images and seeds.

A network is one array per seed with a value for each image, such as whether it is classified
correctly; the mean is the accuracy. Images are shared between networks, so most of their difficulty
cancels in a difference; seeds are not.

A comparison is a weighted sum of the networks' accuracies. Its variance has two parts. That over
images is the one of each image's weighted sum, by bootstrap. That over seeds is
(sigma p(1 - p))^2 for each network, with one sigma on the logit scale for all networks. Half a
pseudo-image for each network is added, so that few images that agree give no certainty. A bootstrap
of both rows and columns would count the interaction of seed and image three times (Owen, 2007, The
pigeonhole bootstrap), and would underestimate the variance of two or three seeds by a half or a
third.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mbsearch.analysis.intervals import Z_95, Interval
from mbsearch.study.noise import pooled_deviation

Array = NDArray[np.float64]
ImageScores = NDArray[np.bool_] | Array
"""A value for each image, whose mean is an accuracy: whether it is classified correctly."""
Correct = Sequence[ImageScores]
"""The values of the images, for each seed of one network."""

FINAL_SEED_DEVIATION = 0.07
"""Prior deviation over seeds of a full training, on the logit scale."""
_DRAWS = 4000
_PSEUDO_VARIANCE = 0.5  # of half a pseudo-image (Jeffreys): no accuracy of 0 or 1 is certain
_SPREADS = np.geomspace(5e-4, 0.5, 60)  # of true accuracies around their prior means
_USUAL_SPREAD = 0.03  # half-Cauchy prior: the median of the spread
_ANY_LEVEL = 1.0  # prior deviation of an error that all prior means have in common


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a scoreboard: an answer, and the network to compare it with.

    Equal names within a `data` set are the same trainings. All networks of a data set are scored on
    the same images.
    """

    data: str
    answer: str
    reference: str


@dataclass(frozen=True)
class Posterior:
    """Normal posterior distribution of the networks' true accuracies.

    `mean` (networks,) and `covariance` (networks, networks).
    """

    mean: Array
    covariance: Array

    def margin(self, i: int, j: int) -> tuple[float, float, float]:
        """Return mean and 95 % interval of the accuracy of network `i` minus that of `j`."""
        mean = float(self.mean[i] - self.mean[j])
        c = self.covariance
        half = Z_95 * math.sqrt(max(0.0, float(c[i, i] + c[j, j] - 2 * c[i, j])))
        return mean, max(-1.0, mean - half), min(1.0, mean + half)


def compare(
    a: Correct,
    b: Correct,
    seed_deviation: float | None = None,
    seed: int = 0,
    effective: int | None = None,
) -> Interval:
    """Return the accuracy of network `a` minus that of `b` on the same images.

    Args:
        a: one or several trainings.
        b: one or several trainings; not necessarily as many.
        seed_deviation: over seeds on the logit scale, from `seed_deviation_of`; None estimates it
            from these two networks and a prior.
        seed: of the bootstrap.
        effective: number of images for which a binomial share has the variance of an accuracy; None
            if that is their number.

    Raises:
        ValueError: the networks were not scored on the same number of images.
    """
    cells, sizes = [Cell("", "a", "b")], None if effective is None else {"": effective}
    return pooled_margin(cells, {("", "a"): a, ("", "b"): b}, seed_deviation, seed, sizes)


def pooled_margin(
    cells: Sequence[Cell],
    networks: Mapping[tuple[str, str], Correct],
    seed_deviation: float | None = None,
    seed: int = 0,
    effective: Mapping[str, int] | None = None,
) -> Interval:
    """Return the mean margin of answers over references; all cells have equal weight.

    The interval is over images and seeds, not over data sets. Cells of one data set share its
    images, and cells with the same network share its seeds.

    Args:
        cells: at least one.
        networks: trainings by data set and name.
        seed_deviation: as in `compare`.
        seed: of the bootstrap.
        effective: number of images by data set, as in `compare`.

    Raises:
        ValueError: there is no cell, or networks of one data set were not scored on the same number
            of images.
    """
    if not cells:
        raise ValueError("expected at least one cell, got none")
    weights: dict[tuple[str, str], float] = {}
    for cell in cells:
        for name, sign in ((cell.answer, 1), (cell.reference, -1)):
            key = cell.data, name
            weights[key] = weights.get(key, 0.0) + sign / len(cells)
    used = {key: _stacked(networks[key]) for key in weights}
    sigma = seed_deviation
    if sigma is None:
        sigma = seed_deviation_of([networks[key] for key in weights])
    rng = np.random.default_rng(seed)
    draws, mean, images, over_seeds = np.zeros(_DRAWS), 0.0, 0, 0.0
    for data in dict.fromkeys(cell.data for cell in cells):
        keys = [key for key in weights if key[0] == data]
        of_images = _weighted(
            [used[key].mean(axis=0) for key in keys], [weights[key] for key in keys]
        )
        draws += _image_means(of_images, rng)
        mean += float(of_images.mean())
        images += len(of_images)
        pseudo = _PSEUDO_VARIANCE / (effective or {}).get(data, len(of_images)) ** 2
        for key in keys:
            p = float(used[key].mean())
            over_seeds += (weights[key] * sigma * p * (1 - p)) ** 2 / len(used[key])
            over_seeds += weights[key] ** 2 * pseudo
    draws += math.sqrt(over_seeds) * rng.standard_normal(_DRAWS)
    low, high = np.quantile(draws, [0.025, 0.975]).clip(-1, 1)
    return Interval(mean, float(low), float(high), images)


def posterior(
    networks: Sequence[Correct],
    prior_means: Sequence[float] | Array,
    seed_deviation: float,
    prior_deviation: float | None = None,
    effective: int | None = None,
) -> Posterior:
    """Return the posterior of finalists' true accuracies, corrected for the winner's curse.

    Observed accuracies are y = theta + e. The errors e have the empirical covariance of the images
    that all networks share, and independent variances over seeds. The true accuracies theta are
    normal around the prior means, which may share an error, with a spread tau. The posterior mean
    shrinks noisy observations towards the prior means, so that the best of many is not
    overestimated (Efron and Morris, 1973, for errors that correlate).

    Args:
        networks: scored on the same images.
        prior_means: predicted accuracies, or the same for all networks.
        seed_deviation: of one training over seeds, on the scale of accuracies.
        prior_deviation: tau, above 0; None integrates over it by its marginal likelihood and a
            half-Cauchy prior of median 0.03.
        effective: number of images, as in `compare`.

    Raises:
        ValueError: the networks were not scored on the same number of images, or the number
            of prior means is another one.
    """
    stacked = [_stacked(correct) for correct in networks]
    prior = np.asarray(prior_means, float)
    if prior.shape != (len(stacked),):
        raise ValueError(f"expected {len(stacked)} prior means, got an array of {prior.shape}")
    of_images = _aligned([correct.mean(axis=0) for correct in stacked])
    observed = of_images.mean(axis=1)
    error = np.atleast_2d(np.cov(of_images)) / of_images.shape[1]
    pseudo = _PSEUDO_VARIANCE / (effective or of_images.shape[1]) ** 2
    error += np.diag([seed_deviation**2 / len(correct) + pseudo for correct in stacked])
    spreads = _SPREADS if prior_deviation is None else np.array([prior_deviation])
    log_weights, means, covariances = [], [], []
    for tau in spreads:
        mean, covariance, log_likelihood = _updated(observed - prior, error, float(tau))
        # The grid is uniform in log tau, so the half-Cauchy density has a factor tau.
        log_weights.append(log_likelihood + math.log(tau / (1 + (tau / _USUAL_SPREAD) ** 2)))
        means.append(prior + mean)
        covariances.append(covariance)
    weights = np.exp(np.array(log_weights) - max(log_weights))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    apart = np.array(means) - mean
    covariance = np.einsum("t,tij->ij", weights, np.array(covariances))
    covariance += np.einsum("t,ti,tj->ij", weights, apart, apart)
    return Posterior(mean, covariance)


def seed_deviation_of(networks: Sequence[Correct], prior: float = FINAL_SEED_DEVIATION) -> float:
    """Return the standard deviation of accuracy over seeds (logit scale), pooled over networks.

    It is the main effect of the seed. The interaction of seed and image is part of the variance
    over images.
    """
    variances, degrees = [], []
    for correct in map(_stacked, networks):
        seeds, images = correct.shape
        p = (correct.sum() + 0.5) / (correct.size + 1)
        if seeds > 1:
            interaction = float(correct.var(axis=0, ddof=1).mean()) / images
            main = float(correct.mean(axis=1).var(ddof=1)) - interaction
            variances.append(main / (p * (1 - p)) ** 2)
            degrees.append(seeds - 1)
    return pooled_deviation(variances, degrees, prior)


def _updated(observed: Array, error: Array, tau: float) -> tuple[Array, Array, float]:
    """Return mean and covariance of the effects given `tau`, and the log marginal likelihood."""
    effects = tau**2 * np.eye(len(observed)) + _ANY_LEVEL**2
    total = effects + error
    gain = np.linalg.solve(total, effects).T
    _, log_determinant = np.linalg.slogdet(total)
    misfit = float(observed @ np.linalg.solve(total, observed))
    return gain @ observed, effects - gain @ effects, -0.5 * (misfit + float(log_determinant))


def _image_means(values: Array, rng: np.random.Generator) -> Array:
    """Return the means of `_DRAWS` bootstrap samples of the images."""
    found, counts = np.unique(values.round(12), return_counts=True)
    drawn = rng.multinomial(len(values), counts / len(values), _DRAWS)
    means: Array = drawn @ found / len(values)
    return means


def _stacked(correct: Correct) -> Array:
    """Return the trainings of one network as an array (seeds, images)."""
    return _aligned([np.asarray(each, float) for each in correct])


def _weighted(of_images: Sequence[Array], weights: Sequence[float]) -> Array:
    total: Array = np.asarray(weights) @ _aligned(of_images)
    return total


def _aligned(of_images: Sequence[Array]) -> Array:
    sizes = sorted({len(each) for each in of_images})
    if len(sizes) != 1 or sizes[0] == 0:
        raise ValueError(f"expected predictions of the same images, got {sizes} of them")
    return np.stack(of_images)
