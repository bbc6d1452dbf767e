"""Kendall's tau, the rank agreement of two scores."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mbsearch.analysis.pareto import columns


def kendall_tau(a: ArrayLike, b: ArrayLike) -> float:
    """Return Kendall's tau-b between two scores of the same networks.

    It is 1 for the same order, -1 for the opposite one, and NaN if either score is constant or any
    entry is NaN. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).
    """
    first, second = columns(a, b)
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
