from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mbsearch.analysis.kendall import kendall_tau
from mbsearch.analysis.pareto import (
    hypervolume,
    hypervolume_history,
    knee_index,
    pareto_front,
    ties,
)

# Few distinct values, so that equal accuracies, equal costs and exact duplicates are common.
POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), max_size=14)
TWO_SCORES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40)


def columns(points: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [a for a, _ in points], [c for _, c in points]


@given(POINTS)
def test_the_front_is_the_set_of_nondominated_networks(points: list[tuple[int, int]]) -> None:
    expected = [
        i
        for i, (a, c) in enumerate(points)
        if not any(
            (b >= a and d <= c and (b > a or d < c)) or ((b, d) == (a, c) and j < i)
            for j, (b, d) in enumerate(points)
        )
    ]
    front = pareto_front(*columns(points)).tolist()
    assert front == sorted(expected, key=lambda i: points[i][1])


@given(POINTS)
def test_hypervolume_counts_the_dominated_cells(points: list[tuple[int, int]]) -> None:
    reference_accuracy, reference_cost = 1, 7
    cells = {
        (x, y)
        for a, c in points
        for x in range(reference_accuracy, a)
        for y in range(c, reference_cost)
    }
    assert hypervolume(*columns(points), (reference_accuracy, reference_cost)) == len(cells)


@given(POINTS)
def test_history_is_the_hypervolume_of_every_prefix(points: list[tuple[int, int]]) -> None:
    accuracies, costs = columns(points)
    expected = [
        hypervolume(accuracies[: i + 1], costs[: i + 1], (1, 7)) for i in range(len(points))
    ]
    assert hypervolume_history(accuracies, costs, (1, 7)).tolist() == expected


def test_networks_that_were_not_measured_are_never_on_the_front() -> None:
    accuracy, cost = [0.5, math.nan, 0.7, 0.9], [1.0, 0.5, math.nan, 2.0]
    assert pareto_front(accuracy, cost).tolist() == [0, 3]
    assert hypervolume(accuracy, cost, (0.0, 3.0)) == pytest.approx(0.5 * 2 + 0.4 * 1)
    assert ties(accuracy, cost, 0.1).tolist() == [0, 3]


def test_without_measurements_front_and_hypervolume_are_empty() -> None:
    assert pareto_front([], []).size == 0
    assert hypervolume([], [], (0.0, 1.0)) == 0.0
    assert ties([math.nan], [1.0], 0.1).size == 0


def test_knee_is_highest_above_the_chord_over_log_cost() -> None:
    # Log costs are evenly spaced: heights above the chord are 0, .8 - 1/3, .9 - 2/3, 0.
    assert knee_index([0.0, 0.8, 0.9, 1.0], [1, 10, 100, 1000]) == 1
    assert knee_index([1.0, 0.9, 0.8, 0.0], [1000, 100, 10, 1]) == 2


def test_knee_ignores_dominated_networks_and_prefers_the_smaller() -> None:
    assert knee_index([0.5, 0.9, 0.2], [1, 10, 5]) == 0
    on_the_chord = [0.0, 0.25, 0.5, 0.75, 1.0]
    assert knee_index(on_the_chord, [1, 10, 100, 1000, 10000]) == 0


@given(POINTS.filter(bool), st.integers(1, 1000))
def test_knee_does_not_depend_on_the_unit_of_cost(points: list[tuple[int, int]], unit: int) -> None:
    accuracy, cost = columns(points)
    assert knee_index(accuracy, cost) == knee_index(accuracy, [c * unit for c in cost])


def test_knee_needs_measured_networks_of_positive_cost() -> None:
    with pytest.raises(ValueError, match="at least one measured network"):
        knee_index([math.nan], [1.0])
    with pytest.raises(ValueError, match="costs above 0, got 0"):
        knee_index([0.5], [0.0])


@given(POINTS, st.floats(0, 3))
def test_ties_are_networks_within_the_noise_of_the_front(
    points: list[tuple[int, int]], noise: float
) -> None:
    accuracy, cost = columns(points)
    expected = {
        i
        for i, (a, c) in enumerate(points)
        if max(b for b, d in points if d <= c) - a <= 1.96 * np.hypot(noise, noise)
    }
    tied = ties(accuracy, cost, noise, z=1.96).tolist()
    assert set(tied) == expected
    assert set(pareto_front(accuracy, cost).tolist()) <= expected
    assert [cost[i] for i in tied] == sorted(cost[i] for i in tied)


def test_ties_take_the_noise_of_each_network() -> None:
    accuracy, cost = [0.90, 0.88, 0.88], [1.0, 2.0, 2.0]
    assert ties(accuracy, cost, [0.001, 0.001, 0.05]).tolist() == [0, 2]


@given(TWO_SCORES)
def test_kendall_tau_agrees_with_scipy(pairs: list[tuple[int, int]]) -> None:
    a, b = columns(pairs)
    assert kendall_tau(a, b) == pytest.approx(stats.kendalltau(a, b).statistic, nan_ok=True)


def test_kendall_tau_with_nan_is_nan() -> None:
    assert math.isnan(kendall_tau([1.0, math.nan, 2.0], [1.0, 2.0, 3.0]))


def test_sequences_must_match() -> None:
    with pytest.raises(ValueError, match=r"equal length, got shapes \(2,\) and \(3,\)"):
        pareto_front([1, 2], [1, 2, 3])
