from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from mbsearch.analysis.pareto import hypervolume
from mbsearch.search.sampler.acquisition import expected_hypervolume_gain
from mbsearch.search.sampler.gaussian_process import (
    Columns,
    Hyperparameters,
    Posterior,
    Warp,
    fit,
    negative_log_posterior,
)

COLUMNS = Columns(np.array([0, 1, 1, 2]), np.array([0.5, 0.9, 2.0]))
PARAMETERS = Hyperparameters(0.3, -3.0, np.log([0.7, 1.1, 1.6]))


def test_posterior_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    inputs, others = rng.random((30, 4)), rng.random((8, 4))
    warped = rng.normal(size=30)
    lengths = np.exp(PARAMETERS.log_length)[COLUMNS.group]
    kernel = ConstantKernel(math.exp(0.3)) * Matern(lengths, nu=2.5)
    oracle = GaussianProcessRegressor(kernel + WhiteKernel(math.exp(-3.0)), optimizer=None)
    expected, deviation = oracle.fit(inputs, warped).predict(others, return_std=True)
    ours = Posterior(inputs, COLUMNS, warped, PARAMETERS)
    mean, ours_deviation = ours.predict(others)
    assert mean == pytest.approx(expected, abs=1e-6)
    noisy = np.sqrt(ours_deviation**2 + ours.noise**2)
    assert noisy == pytest.approx(deviation, abs=1e-6)


def test_gradient_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    inputs, warped, own = rng.random((20, 4)), rng.normal(size=20), rng.uniform(0, 1, 20)

    def value(theta: np.ndarray) -> float:
        return negative_log_posterior(theta, inputs, COLUMNS, warped, own)[0]

    def gradient(theta: np.ndarray) -> np.ndarray:
        return negative_log_posterior(theta, inputs, COLUMNS, warped, own)[1]

    for _ in range(3):
        theta = rng.normal(size=5)
        assert check_grad(value, gradient, theta) < 1e-4 * np.linalg.norm(gradient(theta))


def test_noise_of_single_observations_is_that_of_scikit_learn_and_widens_the_posterior() -> None:
    rng = np.random.default_rng(0)
    inputs, others = rng.random((30, 4)), rng.random((8, 4))
    warped, own = rng.normal(size=30), rng.uniform(0, 0.5, 30)
    lengths = np.exp(PARAMETERS.log_length)[COLUMNS.group]
    kernel = ConstantKernel(math.exp(0.3)) * Matern(lengths, nu=2.5)
    oracle = GaussianProcessRegressor(kernel, alpha=own + math.exp(-3.0), optimizer=None)
    expected, deviation = oracle.fit(inputs, warped).predict(others, return_std=True)
    mean, ours = Posterior(inputs, COLUMNS, warped, PARAMETERS, own).predict(others)
    assert mean == pytest.approx(expected, abs=1e-6)
    assert ours == pytest.approx(deviation, abs=1e-6)
    _, without = Posterior(inputs, COLUMNS, warped, PARAMETERS).predict(others)
    assert (ours > without).all()


def test_fit_finds_the_noise_and_the_column_that_matters() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((120, 3))
    accuracy = 50 + 20 * np.sin(5 * inputs[:, 1]) + rng.normal(0, 2, 120)
    parameters, warp = fit(inputs, Columns(np.arange(3), np.ones(3)), accuracy)
    assert np.argmin(parameters.log_length) == 1
    steepness = (warp.forward(np.array([51.0])) - warp.forward(np.array([49.0])))[0] / 2
    assert math.exp(parameters.log_noise / 2) == pytest.approx(2 * steepness, rel=0.5)


@pytest.mark.parametrize("last", [0.7, np.nextafter(0.7, 1)])
def test_equal_accuracies_are_no_trouble(last: float) -> None:
    accuracies = np.array([0.7] * 4 + [last])
    inputs = np.random.default_rng(0).random((5, 2))
    parameters, warp = fit(inputs, Columns(np.arange(2), np.ones(2)), accuracies)
    posterior = Posterior(
        inputs, Columns(np.arange(2), np.ones(2)), warp.forward(accuracies), parameters
    )
    assert warp.backward(posterior.predict(inputs)[0]) == pytest.approx(np.full(5, 0.7))


def test_pending_networks_keep_means_and_narrow_uncertainty() -> None:
    rng = np.random.default_rng(0)
    inputs, others = rng.random((25, 4)), rng.random((10, 4))
    before = Posterior(inputs, COLUMNS, rng.normal(size=25), PARAMETERS)
    after = before.with_pending(others[:4])
    mean, deviation = before.predict(others)
    believed, narrower = after.predict(others)
    assert believed == pytest.approx(mean, abs=1e-6)
    assert (narrower <= deviation + 1e-9).all()
    assert (narrower[:4] < 0.9 * deviation[:4]).all()
    assert before.with_pending(others[:0]) is before


@pytest.mark.parametrize("ceiling", [math.inf, 1.0, 1.4])
def test_warp_is_undone_by_its_inverse(ceiling: float) -> None:
    accuracy = np.array([0.1, 0.5, 0.93])
    warp = Warp.fit(accuracy, ceiling)
    assert warp.backward(warp.forward(accuracy)) == pytest.approx(accuracy)
    assert np.mean(warp.forward(accuracy)) == pytest.approx(0, abs=1e-12)
    assert (np.diff(warp.forward(np.array([0.1, 0.9, 0.99, 2.0]))) >= 0).all()


def test_log_slope_is_the_derivative_of_the_warp() -> None:
    accuracy, step = np.array([0.1, 0.5, 0.9]), 1e-6
    for ceiling in (math.inf, 1.2):
        warp = Warp.fit(accuracy, ceiling)
        slope = (warp.forward(accuracy + step) - warp.forward(accuracy - step)) / (2 * step)
        assert warp.log_slope(accuracy) == pytest.approx(np.log(slope).sum(), abs=1e-6)


@pytest.mark.parametrize("ceiling", [math.inf, 1.05])
def test_expected_improvement_equals_its_monte_carlo_estimate(ceiling: float) -> None:
    rng = np.random.default_rng(0)
    accuracies, costs = rng.uniform(0.3, 0.9, 12), rng.uniform(0, 5, 12)
    reference_point = (0.4, 4.5)
    warp = Warp.fit(accuracies, ceiling)
    mean, deviation = rng.normal(size=6), rng.uniform(0.1, 1.5, 6)
    cost = rng.uniform(-1, 5, 6)
    gain = expected_hypervolume_gain(
        mean, deviation, cost, (accuracies, costs), reference_point, warp
    )
    before = hypervolume(accuracies, costs, reference_point)
    for i in range(6):
        draws = warp.backward(mean[i] + deviation[i] * rng.normal(size=3000))
        after = [
            hypervolume([*accuracies, draw], [*costs, cost[i]], reference_point) for draw in draws
        ]
        error = 4 * float(np.std(after)) / math.sqrt(len(after)) + 1e-12
        assert gain[i] == pytest.approx(np.mean(after) - before, abs=error)


def test_a_network_beyond_the_reference_point_gains_nothing() -> None:
    warp = Warp.fit(np.array([0.2, 0.8]), 1.0)
    front = np.array([0.5]), np.array([1.0])
    gain = expected_hypervolume_gain(
        np.array([0.0, 0.0]), np.ones(2), np.array([2.0, 1.9]), front, (0.1, 2.0), warp
    )
    assert gain[0] == 0
    assert gain[1] > 0
