"""Encode networks as inputs of the Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from mbsearch.search.sampler.candidates import Network
from mbsearch.search.sampler.gaussian_process import Columns
from mbsearch.search.sampler.parameters import ChoiceSpace, Rows

# Prior medians of length scales, in units of a column's range. Those of parameters grow with the
# square root of their number, as distances between networks do (Hvarfner et al., "Vanilla Bayesian
# optimization performs great in high dimensions", 2024). The user's features may be redundant, so
# their length scales are long before the fit.
COST_LENGTH = 0.5
COUNT_LENGTH = 0.7
FEATURE_LENGTH = 1.5
PARAMETER_LENGTH = 1.65


class Encoder:
    """Encodes networks as inputs of the Gaussian process, with columns scaled to about [0, 1].

    Columns are: log cost; each parameter (one column if ordered or binary, else one-hot); for
    parameters that share their choices, how often each choice occurs; the user's features. An
    inactive parameter has the same neutral value everywhere.
    """

    def __init__(self, space: ChoiceSpace, sample: Sequence[Network]) -> None:
        self._space = space
        self._families = _families(space)
        self._low, self._range = np.zeros(0), np.zeros(0)
        self._features = len(sample[0].features)
        raw = self._global_columns(sample)
        self._low = raw.min(axis=0)
        self._range = np.ptp(raw, axis=0)
        self._varying = self._range > 1e-9
        widths = [_width(axis.count, axis.ordered) for axis in space.axes]
        globals_ = int(np.count_nonzero(self._varying))
        group = [*range(globals_)]
        for i, width in enumerate(widths):
            group += [globals_ + i] * width
        counts = raw.shape[1] - self._features - 1
        length = np.concatenate(
            [
                [COST_LENGTH],
                np.full(counts, COUNT_LENGTH * max(1.0, math.sqrt(counts / 4))),
                np.full(self._features, FEATURE_LENGTH * max(1.0, math.sqrt(self._features / 4))),
            ]
        )[self._varying]
        per_parameter = np.full(len(widths), PARAMETER_LENGTH * math.sqrt(len(widths)))
        self.columns = Columns(
            np.array(group, dtype=np.intp), np.concatenate([length, per_parameter])
        )

    def __call__(self, networks: Sequence[Network]) -> NDArray[np.float64]:
        """Return the inputs (n, columns) of networks."""
        scaled = (self._global_columns(networks) - self._low)[:, self._varying]
        blocks = [scaled / self._range[self._varying]]
        rows = _masked(networks, len(self._space.axes))
        for i, axis in enumerate(self._space.axes):
            entries = rows[:, i]
            known = ~np.isnan(entries)
            if axis.ordered or axis.count == 2:
                position = _units(axis.units, np.where(known, entries, 0.0))
                blocks.append(np.where(known, position, 0.5)[:, None])
            else:
                count = axis.count or 1
                one_hot = np.full((len(rows), count), 1.0 / count)
                one_hot[known] = np.eye(count)[entries[known].astype(int)]
                blocks.append(one_hot / math.sqrt(2.0))
        return np.hstack(blocks)

    def _global_columns(self, networks: Sequence[Network]) -> NDArray[np.float64]:
        """Return log cost, counts of choices and the user's features, unscaled (n, columns)."""
        rows = _masked(networks, len(self._space.axes))
        columns = [np.array([n.cost for n in networks])[:, None]]
        for members, counted in self._families:
            entries = rows[:, members]
            present = np.maximum(1, np.count_nonzero(~np.isnan(entries), axis=1))
            if counted == 0:
                known = ~np.isnan(entries)
                axis = self._space.axes[members[0]]
                units = _units(axis.units, np.where(known, entries, 0.0))
                columns.append((np.sum(units * known, axis=1) / present)[:, None])
            else:
                counts = [np.mean(entries == choice, axis=1) for choice in range(counted)]
                columns.append(np.column_stack(counts))
        columns.append(
            np.array([n.features for n in networks]).reshape(len(networks), self._features)
        )
        return np.hstack(columns)


def _families(space: ChoiceSpace) -> list[tuple[list[int], int]]:
    """Return groups of axes with the same choices, and the number of choices to count in each.

    The number is 0 for ordered or binary parameters, for which the mean is as informative.
    """
    alike: dict[Hashable, list[int]] = {}
    for i, axis in enumerate(space.axes):
        if axis.count is not None and axis.count > 1:
            alike.setdefault(repr(axis.distribution), []).append(i)
    return [
        (
            members,
            0 if (axis := space.axes[members[0]]).ordered or axis.count == 2 else axis.count or 0,
        )
        for members in alike.values()
        if len(members) > 1
    ]


def _masked(networks: Sequence[Network], width: int) -> Rows:
    rows = np.array([n.row for n in networks]).reshape(len(networks), width)
    active = np.array([n.active for n in networks], dtype=bool).reshape(len(networks), width)
    return np.where(active, rows, math.nan)


def _width(count: int | None, ordered: bool) -> int:
    return 1 if ordered or count == 2 or count is None else count


def _units(units: NDArray[np.float64] | None, entries: Rows) -> NDArray[np.float64]:
    return entries if units is None else np.asarray(units[entries.astype(int)])
