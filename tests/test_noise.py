"""The noise model: binomial over images, constant on the logit scale over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbsearch.study.noise import (
    SEED_DEVIATION,
    interval,
    pooled_seed_deviation,
    standard_error,
)

ACCURACIES = st.floats(0, 1)
IMAGES = st.integers(1, 100_000)
DEVIATIONS = st.floats(0, 3)


@given(ACCURACIES, IMAGES, DEVIATIONS, st.floats(0.5, 0.999))
def test_an_interval_contains_the_accuracy_and_never_leaves_the_unit_interval(
    accuracy: float, images: int, deviation: float, level: float
) -> None:
    low, high = interval(accuracy, images, deviation, level)
    assert 0 <= low <= high <= 1
    assert low - 1e-9 <= accuracy <= high + 1e-9


@given(ACCURACIES, IMAGES, DEVIATIONS)
def test_a_deviation_over_seeds_widens(accuracy: float, images: int, deviation: float) -> None:
    plain, wide = interval(accuracy, images, 0.0), interval(accuracy, images, deviation)
    assert wide[0] <= plain[0] + 1e-12
    assert wide[1] >= plain[1] - 1e-12
    assert standard_error(accuracy, images, deviation) >= standard_error(accuracy, images, 0.0) > 0


def test_without_seeds_the_interval_is_wilsons() -> None:
    # Brown, Cai and DasGupta (2001); the values are those of statsmodels' proportion_confint.
    assert interval(0.8, 100, 0.0) == pytest.approx((0.711170, 0.866633), abs=1e-5)
    assert interval(1.0, 20, 0.0) == pytest.approx((0.838875, 1.0), abs=1e-5)


@pytest.mark.parametrize("truth", [0.2, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.3])
def test_intervals_have_the_coverage_of_their_level(truth: float, deviation: float) -> None:
    rng = np.random.default_rng(0)
    log_odds = math.log(truth / (1 - truth)) + deviation * rng.standard_normal(2000)
    accuracies = rng.binomial(700, 1 / (1 + np.exp(-log_odds))) / 700
    inside = [
        low <= truth <= high for low, high in (interval(a, 700, deviation) for a in accuracies)
    ]
    assert 0.93 <= np.mean(inside) <= 0.975
    assert np.std(accuracies) == pytest.approx(standard_error(truth, 700, deviation), rel=0.15)


@pytest.mark.parametrize("deviation", [0.05, 0.2, 0.5])
def test_many_repeats_outweigh_the_prior(deviation: float) -> None:
    """Half of the errors are common to the trainings of a network, as of the same images."""
    rng, images = np.random.default_rng(1), 2000
    repeats = []
    for middle in rng.uniform(-1, 2.5, 200):
        p = 1 / (1 + np.exp(-(middle + deviation * rng.standard_normal(3))))
        repeats.append((p + np.sqrt(0.5 * p * (1 - p) / images) * rng.standard_normal(3)).tolist())
    assert pooled_seed_deviation(repeats, images) == pytest.approx(deviation, rel=0.15)


def test_an_outlier_does_not_dominate_the_pooled_deviation() -> None:
    """A badly trained baseline once put ± 0.124 on every accuracy."""
    odd = [[0.15, 0.40, 0.28]]
    assert pooled_seed_deviation(odd, 2000) < 0.2
    usual = [[0.71, 0.72, 0.70], [0.80, 0.81, 0.805], [0.76, 0.75, 0.765]]
    assert pooled_seed_deviation(odd + usual, 2000) < 0.15
    assert standard_error(0.8, 2000, pooled_seed_deviation(odd, 2000)) < 0.035
    assert pooled_seed_deviation(4 * odd, 2000) > 0.4, "several that agree are believed"


def test_single_trainings_leave_the_prior_deviation() -> None:
    assert pooled_seed_deviation([], 100) == SEED_DEVIATION
    assert pooled_seed_deviation([[0.5], [0.9]], 100) == SEED_DEVIATION


def test_repeats_with_accuracies_of_0_and_1_stay_finite() -> None:
    assert 0 < pooled_seed_deviation([[1.0, 1.0, 1.0], [0.0, 0.0]], 50) < 1
