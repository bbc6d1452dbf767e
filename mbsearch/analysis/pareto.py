"""Pareto fronts of accuracy (to maximise) and cost (to minimise), from plain numbers.

Every function takes two sequences of equal length with one entry per network. A network whose
accuracy or cost is NaN was not measured: it keeps its index and is never part of a result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mbsearch.analysis.intervals import Z_95


def pareto_front(accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.intp]:
    """Return the Pareto front's indices, by increasing cost.

    Of networks equal in accuracy and cost only the first is kept, so both increase strictly along
    the result.
    """
    accuracies, costs = columns(accuracy, cost)
    measured = np.flatnonzero(~(np.isnan(accuracies) | np.isnan(costs)))
    # lexsort is stable: by cost, at equal cost the most accurate first, then the first given.
    order: NDArray[np.intp] = measured[np.lexsort((-accuracies[measured], costs[measured]))]
    if order.size == 0:
        return order
    best_so_far = np.maximum.accumulate(accuracies[order])
    improves = np.concatenate([[True], accuracies[order][1:] > best_so_far[:-1]])
    return np.asarray(order[improves])


def hypervolume(
    accuracy: ArrayLike, cost: ArrayLike, reference_point: tuple[float, float]
) -> float:
    """Return the area that networks dominate, up to a reference point (accuracy, cost).

    It is exact, on the scale of the given costs (pass logarithms for the area over log cost).
    Networks that are not better than the reference point in both coordinates add nothing.
    """
    accuracies, costs = columns(accuracy, cost)
    worst_accuracy, worst_cost = reference_point
    with np.errstate(invalid="ignore"):
        inside = np.flatnonzero((accuracies > worst_accuracy) & (costs < worst_cost))
    front = inside[pareto_front(accuracies[inside], costs[inside])]
    steps = np.diff(accuracies[front], prepend=worst_accuracy)
    return float(np.sum(steps * (worst_cost - costs[front])))


def hypervolume_history(
    accuracy: ArrayLike, cost: ArrayLike, reference_point: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the hypervolume of the first 1, 2, ..., n networks."""
    accuracies, costs = columns(accuracy, cost)
    history = np.zeros(accuracies.size)
    kept = np.zeros(0, dtype=np.intp)
    volume = 0.0
    for i in range(accuracies.size):
        # Most networks are dominated by earlier ones and change nothing.
        if not np.any((accuracies[kept] >= accuracies[i]) & (costs[kept] <= costs[i])):
            candidates = np.append(kept, i)
            kept = candidates[pareto_front(accuracies[candidates], costs[candidates])]
            volume = hypervolume(accuracies[kept], costs[kept], reference_point)
        history[i] = volume
    return history


def knee_index(accuracy: ArrayLike, cost: ArrayLike) -> int:
    """Return the index of the network at the knee of the front.

    Along the front, log cost and accuracy are each scaled to [0, 1]. The knee is the network with
    the largest accuracy minus cost, that is, the highest one above the line from the smallest to
    the most accurate network. At equal height it is the smallest one, so a front of one or two
    networks gives its smallest.

    Raises:
        ValueError: nothing was measured, or a cost is not positive.
    """
    accuracies, costs = columns(accuracy, cost)
    front = pareto_front(accuracies, costs)
    if front.size == 0:
        raise ValueError("knee: expected at least one measured network, got none")
    if costs[front[0]] <= 0:
        raise ValueError(f"knee: expected costs above 0, got {costs[front[0]]}")
    if front.size <= 2:
        return int(front[0])
    log_cost = np.log(costs[front])
    height = (accuracies[front] - accuracies[front[0]]) / np.ptp(accuracies[front]) - (
        log_cost - log_cost[0]
    ) / np.ptp(log_cost)
    # Rounding makes heights equal that differ by floating point only.
    return int(front[np.argmax(np.round(height, 12))])


def ties(
    accuracy: ArrayLike, cost: ArrayLike, noise: ArrayLike, z: float = Z_95
) -> NDArray[np.intp]:
    """Return the indices of networks statistically tied with the front, by increasing cost.

    The front's best network of equal or smaller cost is better by at most ``z`` standard deviations
    of the difference of the two accuracies. ``noise`` is the standard deviation of one accuracy:
    one number, or one per network. The front itself is included.
    """
    accuracies, costs = columns(accuracy, cost)
    deviation = np.broadcast_to(np.asarray(noise, dtype=float), accuracies.shape)
    front = pareto_front(accuracies, costs)
    measured = np.flatnonzero(~(np.isnan(accuracies) | np.isnan(costs)))
    if measured.size == 0:
        return measured
    nearest = front[np.searchsorted(costs[front], costs[measured], side="right") - 1]
    margin = accuracies[nearest] - accuracies[measured]
    tied: NDArray[np.intp] = measured[
        margin <= z * np.hypot(deviation[nearest], deviation[measured])
    ]
    return np.asarray(tied[np.lexsort((-accuracies[tied], costs[tied]))])


def columns(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two sequences as float arrays; raise `ValueError` if their lengths differ."""
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"expected two sequences of equal length, got shapes {first.shape} and {second.shape}"
        )
    return first, second
