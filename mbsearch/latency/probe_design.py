"""Choose the networks of a space whose latencies determine a latency model best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mbsearch.config.specification import SearchSpecification
from mbsearch.config.survey import sample_by_cost
from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.latency.model import LEAST, features
from mbsearch.search.references import references_to_measure
from mbsearch.space.architecture import Architecture

_CANDIDATES = 3  # for each network that is chosen


def probe_networks(space: SearchSpecification, count: int, seed: int) -> list[Architecture]:
    """Return distinct networks whose features are far apart, by increasing predicted work.

    The candidates are random networks within the space's limits, spread over its costs, and the
    references of `references_to_measure`. From the candidate nearest to their mean on, the one
    farthest from all chosen ones is added (Gonzalez, 1985). Distances are Euclidean, between
    logarithms of the latency model's features, which are standardised.

    Args:
        space: the space to sample.
        count: number of networks; all candidates if there are fewer.
        seed: seed of the candidates.

    Raises:
        SpecError: the space has too few networks within its limits.
    """
    pool = {each.fingerprint: each for each in sample_by_cost(space, _CANDIDATES * count, seed)}
    excess = space.settings.exact.excess
    for network in references_to_measure(space):
        if excess(measure(network)) is None:
            pool.setdefault(network.fingerprint, network)
    candidates = list(pool.values())
    if len(candidates) < LEAST:
        raise SpecError(
            f"{space.name}: expected at least {LEAST} networks within the limits to measure, got "
            f"{len(candidates)}"
        )
    chosen = farthest_points(_scaled_features(candidates), count)
    return sorted((candidates[i] for i in chosen), key=lambda each: measure(each)["mult_adds"])


def farthest_points(points: NDArray[np.float64], count: int) -> list[int]:
    """Return the rows of a farthest-point design, the first nearest to the mean."""
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


def _scaled_features(networks: list[Architecture]) -> NDArray[np.float64]:
    rows = [features(network.layers()) for network in networks]
    names = sorted({name for row in rows for name in row})
    logs = np.log1p(np.array([[row.get(name, 0.0) for name in names] for row in rows]))
    deviations = logs.std(axis=0)
    scaled: NDArray[np.float64] = (logs - logs.mean(axis=0)) / np.where(deviations, deviations, 1)
    return scaled
