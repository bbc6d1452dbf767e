"""The search space as rows of numbers that a sampler can draw, mutate and compare.

A row is a network, a column (axis) a parameter. A finite axis has the index of the value, a
continuous one the position between its bounds in [0, 1]. NaN marks an inactive parameter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mbsearch.errors import SpecError

Distribution = CategoricalDistribution | IntDistribution | FloatDistribution
Rows = NDArray[np.float64]

# Standard deviation of the small mutations of a long ordered axis, in [0, 1].
NEARBY = 0.15


@dataclass(frozen=True, slots=True)
class Axis:
    """One parameter: its distribution, number of values, and their positions in [0, 1].

    `count` is None for a continuous parameter. `units` has the position of each value of an
    ordered finite axis and is None for an unordered one and a continuous one.
    """

    name: str
    distribution: Distribution
    count: int | None
    units: NDArray[np.float64] | None

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, so that neighbouring values are similar."""
        return self.units is not None or self.count is None

    def encode(self, value: Any) -> float:
        """Return a value's entry in a row; NaN if the distribution does not contain the value."""
        if isinstance(self.distribution, CategoricalDistribution):
            try:
                return self.distribution.to_internal_repr(value)
            except ValueError:
                return math.nan
        low, high, step = self.distribution.low, self.distribution.high, self.distribution.step
        if not isinstance(value, int | float) or not low <= value <= high:
            return math.nan
        if step is not None:
            return float(round((value - low) / step))
        if low == high:
            return 0.0
        if self.distribution.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def decode(self, entry: float) -> Any:
        """Return the parameter's value for an entry of a row."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return choices[int(entry)]
            case IntDistribution(low=low, step=step):
                return low + int(entry) * step
            case FloatDistribution(low=low, high=high, step=step, log=log):
                if step is not None:
                    value = low + int(entry) * step
                else:
                    value = low * (high / low) ** entry if log else low + entry * (high - low)
                return min(high, max(low, float(value)))

    def draw(self, rng: np.random.Generator, size: int) -> Rows:
        """Draw entries uniformly, or log-uniformly if the distribution is logarithmic."""
        if self.count is None:
            return rng.random(size)
        if self.units is None or isinstance(self.distribution, CategoricalDistribution):
            return rng.integers(self.count, size=size).astype(float)
        return nearest(self.units, rng.random(size))

    def mutate(self, rng: np.random.Generator, entry: float) -> float:
        """Draw a different entry; on a long ordered axis half of the draws are nearby."""
        near = rng.random() < 0.5
        if self.count is None:
            other = entry + rng.normal(0.0, NEARBY) if near else rng.random()
            return float(np.clip(other, 0.0, 1.0))
        if self.count == 1:
            return entry
        if self.units is not None and near and self.count > 3:
            step = rng.normal(0.0, NEARBY) * self.count
            other = entry + math.copysign(max(1, round(abs(step))), step)
            if 0 <= other < self.count:
                return other
        anywhere = float(rng.integers(self.count - 1))
        return anywhere + (anywhere >= entry)


class ChoiceSpace:
    """A search space as axes, one for each parameter."""

    def __init__(self, search_space: Mapping[str, BaseDistribution]) -> None:
        self.axes = tuple(_axis(name, search_space[name]) for name in search_space)

    @property
    def size(self) -> int | None:
        """Number of parameter sets; None if a parameter is continuous."""
        counts = [axis.count for axis in self.axes]
        return math.prod(c for c in counts if c is not None) if None not in counts else None

    def encode(self, params: Mapping[str, Any]) -> Rows | None:
        """Return a parameter set's row; None if a value is outside the space.

        Missing parameters are NaN.
        """
        row = np.full(len(self.axes), math.nan)
        for i, axis in enumerate(self.axes):
            if axis.name in params:
                row[i] = axis.encode(params[axis.name])
                if math.isnan(row[i]):
                    return None
        return row

    def with_values(
        self, params: Mapping[str, Any], canonical: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return a parameter set updated with the values of its canonical form.

        Raises:
            SpecError: a value of the canonical form is outside the space.
        """
        changed = {**params, **canonical}
        if changed != params and self.encode(changed) is None:
            raise SpecError(f"canonical: a value outside the search space in {dict(canonical)!r}")
        return changed

    def decode(self, row: Rows) -> dict[str, Any]:
        """Return the parameters for a row that has no NaN."""
        return {axis.name: axis.decode(entry) for axis, entry in zip(self.axes, row, strict=True)}

    def draw(self, rng: np.random.Generator, size: int) -> Rows:
        """Draw `size` independent random rows."""
        return np.column_stack([axis.draw(rng, size) for axis in self.axes])

    def mutate(self, rng: np.random.Generator, row: Rows, active: NDArray[np.bool_]) -> Rows:
        """Return a row with a few active parameters changed at random."""
        axes = np.flatnonzero(active)
        if axes.size == 0:
            return row
        child = row.copy()
        changes = min(axes.size, int(rng.geometric(0.55)))
        for i in rng.choice(axes, changes, replace=False):
            child[i] = self.axes[i].mutate(rng, row[i])
        return child

    def neighbours(self, row: Rows, active: NDArray[np.bool_], reach: int = 8) -> list[Rows]:
        """Return the rows that differ from `row` in one active parameter.

        At most `reach` values of each parameter are used.
        """
        found = []
        for i in np.flatnonzero(active):
            for entry in self._alternatives(self.axes[i], row[i], reach):
                other = row.copy()
                other[i] = entry
                found.append(other)
        return found

    def all_rows(self) -> Iterator[Rows]:
        """Yield every row of a finite space, in a fixed order."""
        for entries in product(*(range(axis.count or 0) for axis in self.axes)):
            yield np.array(entries, dtype=float)

    @staticmethod
    def _alternatives(axis: Axis, entry: float, reach: int) -> list[float]:
        if axis.count is None:
            steps = (-1.0, -0.3, -0.1, -0.03, 0.03, 0.1, 0.3, 1.0)
            return sorted({float(np.clip(entry + s, 0.0, 1.0)) for s in steps} - {entry})
        if axis.count - 1 <= reach:
            return [float(i) for i in range(axis.count) if i != entry]
        last = axis.count - 1
        steps = (-last, -last // 4, -last // 16, -1, 1, last // 16, last // 4, last)
        return sorted({float(np.clip(entry + s, 0, last)) for s in steps} - {entry})


def nearest(units: NDArray[np.float64], positions: Rows) -> Rows:
    """Return the index of the closest unit for each position; `units` must be ascending."""
    if units.size == 1:
        return np.zeros(len(positions))
    middles = (units[1:] + units[:-1]) / 2
    return np.searchsorted(middles, positions).astype(float)


def _axis(name: str, distribution: BaseDistribution) -> Axis:
    match distribution:
        case CategoricalDistribution(choices=choices):
            numeric = all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices)
            ranks = np.argsort(np.argsort(np.array(choices, dtype=float))) if numeric else None
            units = None if ranks is None else ranks / max(1, len(choices) - 1)
            return Axis(name, distribution, len(choices), units)
        case IntDistribution(low=low, high=high, step=step, log=log):
            count = (high - low) // step + 1
            return Axis(name, distribution, count, _grid(low, step, count, log))
        case FloatDistribution(low=low, high=high, step=step) if step is not None:
            count = round((high - low) / step) + 1
            return Axis(name, distribution, count, _grid(low, step, count, log=False))
        case FloatDistribution(low=low, high=high):
            single = np.zeros(1) if low == high else None
            return Axis(name, distribution, None if single is None else 1, single)
    raise SpecError(
        f"{name}: expected a categorical, int or float distribution, got {distribution!r}"
    )


def _grid(low: float, step: float, count: int, log: bool) -> NDArray[np.float64]:
    values = low + step * np.arange(count, dtype=float)
    values = np.log(values) if log else values
    return np.asarray((values - values[0]) / (np.ptp(values) or 1.0))
