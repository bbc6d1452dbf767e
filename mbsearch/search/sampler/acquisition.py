"""Expected hypervolume improvement, for networks with an exactly known cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mbsearch.analysis.pareto import pareto_front
from mbsearch.search.sampler.gaussian_process import Warp

Array = NDArray[np.float64]


def expected_hypervolume_gain(
    mean: Array,
    deviation: Array,
    cost: Array,
    front: tuple[Array, Array],
    reference_point: tuple[float, float],
    warp: Warp,
) -> Array:
    """Return each candidate's expected hypervolume improvement over a front, in closed form.

    `mean` and `deviation` describe the warped accuracy of the candidates, `cost` their exact cost
    on the scale of the area (log cost). `front` = (accuracy, cost) of known networks, dominated
    ones allowed, and `reference_point` = (accuracy, cost) as in `pareto.hypervolume`.

    At an accuracy level a, a candidate of cost c that reaches it widens the dominated area by
    max(0, C(a) - c), where C(a) is the least cost of a known network that reaches a. C is a
    staircase, so the mean over the candidate's accuracy A is a sum over its steps of
    max(0, C_k - c) (E[max(0, A - a_k)] - E[max(0, A - a_(k+1))]).
    """
    accuracies, costs = front
    worst_accuracy, worst_cost = reference_point
    inside = np.flatnonzero((accuracies > worst_accuracy) & (costs < worst_cost))
    steps = inside[pareto_front(accuracies[inside], costs[inside])]
    levels = np.concatenate([[worst_accuracy], accuracies[steps]])
    widths = np.maximum(0.0, np.append(costs[steps], worst_cost) - cost[:, None])
    excess = warp.expected_excess(mean[:, None], deviation[:, None], levels)
    heights = excess.copy()
    heights[:, :-1] -= excess[:, 1:]
    return np.asarray(np.sum(widths * np.maximum(heights, 0.0), axis=1))
