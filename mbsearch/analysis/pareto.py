"""Fronts of accuracy (more is better) against cost (less is better): plain numbers in and out.

Every function takes two sequences of equal length, one entry a network. A network whose accuracy
or cost is NaN was not measured: it keeps its index and is never part of a result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def pareto_front(accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.intp]:
    """Indices of the networks that no other one beats, cheapest first.

    Of networks equal in accuracy and cost only the first is kept, so both accuracy and cost rise
    strictly along the result.
    """
    accuracies, costs = _columns(accuracy, cost)
    measured = np.flatnonzero(~(np.isnan(accuracies) | np.isnan(costs)))
    # lexsort is stable: cheapest first, of equal cost the most accurate, then the first given.
    order: NDArray[np.intp] = measured[np.lexsort((-accuracies[measured], costs[measured]))]
    if order.size == 0:
        return order
    best_so_far = np.maximum.accumulate(accuracies[order])
    improves = np.concatenate([[True], accuracies[order][1:] > best_so_far[:-1]])
    return np.asarray(order[improves])


def hypervolume(
    accuracy: ArrayLike, cost: ArrayLike, reference_point: tuple[float, float]
) -> float:
    """Area that the networks dominate, up to ``reference_point`` = (accuracy, cost).

    Exact, on whatever scale the cost is given (pass logarithms to get the area over log cost).
    Networks that do not beat the reference point in both coordinates add nothing.
    """
    accuracies, costs = _columns(accuracy, cost)
    worst_accuracy, worst_cost = reference_point
    with np.errstate(invalid="ignore"):
        inside = np.flatnonzero((accuracies > worst_accuracy) & (costs < worst_cost))
    front = inside[pareto_front(accuracies[inside], costs[inside])]
    steps = np.diff(accuracies[front], prepend=worst_accuracy)
    return float(np.sum(steps * (worst_cost - costs[front])))


def hypervolume_history(
    accuracy: ArrayLike, cost: ArrayLike, reference_point: tuple[float, float]
) -> NDArray[np.float64]:
    """Hypervolume of the first network, of the first two, and so on (see ``hypervolume``)."""
    accuracies, costs = _columns(accuracy, cost)
    history = np.zeros(accuracies.size)
    kept = np.zeros(0, dtype=np.intp)
    volume = 0.0
    for i in range(accuracies.size):
        # Most networks are dominated by what is known, and change nothing.
        if not np.any((accuracies[kept] >= accuracies[i]) & (costs[kept] <= costs[i])):
            grown = np.append(kept, i)
            kept = grown[pareto_front(accuracies[grown], costs[grown])]
            volume = hypervolume(accuracies[kept], costs[kept], reference_point)
        history[i] = volume
    return history


def knee(accuracy: ArrayLike, cost: ArrayLike) -> int:
    """Index of the network where paying more stops being worth it.

    Along the front, log cost and accuracy are each scaled to [0, 1]; the knee is the network with
    the largest accuracy minus cost, that is, the one highest above the line from the cheapest to
    the most accurate. Of equally high ones the cheapest is taken, so a front of one or two networks
    gives its cheapest. Raises ``ValueError`` when nothing was measured or a cost is not positive.
    """
    accuracies, costs = _columns(accuracy, cost)
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
    # Rounding makes "equally high" mean what the docstring says in spite of floating point.
    return int(front[np.argmax(np.round(height, 12))])


def ties(
    accuracy: ArrayLike, cost: ArrayLike, noise: ArrayLike, z: float = Z_95
) -> NDArray[np.intp]:
    """Indices of the networks statistically tied with the front, cheapest first.

    A network is tied when the front's best network of equal or less cost is ahead of it by at most
    ``z`` standard deviations of the difference of the two accuracies. ``noise`` is the standard
    deviation of one accuracy: one number, or one a network. The front is tied with itself.
    """
    accuracies, costs = _columns(accuracy, cost)
    deviation = np.broadcast_to(np.asarray(noise, dtype=float), accuracies.shape)
    front = pareto_front(accuracies, costs)
    measured = np.flatnonzero(~(np.isnan(accuracies) | np.isnan(costs)))
    if measured.size == 0:
        return measured
    rival = front[np.searchsorted(costs[front], costs[measured], side="right") - 1]
    lead = accuracies[rival] - accuracies[measured]
    tied: NDArray[np.intp] = measured[lead <= z * np.hypot(deviation[rival], deviation[measured])]
    return np.asarray(tied[np.lexsort((-accuracies[tied], costs[tied]))])


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float:
    """Rank agreement of two scores of the same networks: Kendall's tau-b, which allows for ties.

    1 for the same order, -1 for the opposite one, NaN when either score is constant or any entry is
    NaN. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).
    """
    first, second = _columns(a, b)
    if np.isnan(first).any() or np.isnan(second).any():
        return math.nan
    agreement = untied_first = untied_second = 0
    for i in range(1, first.size):  # one row at a time: memory stays linear
        sign_first = np.sign(first[:i] - first[i])
        sign_second = np.sign(second[:i] - second[i])
        agreement += int(sign_first @ sign_second)
        untied_first += int(np.count_nonzero(sign_first))
        untied_second += int(np.count_nonzero(sign_second))
    if untied_first == 0 or untied_second == 0:
        return math.nan
    return agreement / math.sqrt(untied_first * untied_second)


def _columns(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"expected two sequences of equal length, got shapes {first.shape} and {second.shape}"
        )
    return first, second
