"""Pareto front of a study's records, its knee and hypervolume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.analysis import pareto
from mbsearch.errors import StorageError
from mbsearch.study.records import TrialRecord, of_highest_fidelity


def front_of(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records on the Pareto front at the highest fidelity, by increasing cost."""
    done = of_highest_fidelity(records)
    indices = pareto.pareto_front([r.accuracy for r in done], [r.cost for r in done])
    return [done[i] for i in indices]


def knee_of(records: Sequence[TrialRecord]) -> TrialRecord:
    """Return the record at the knee of the front; see `pareto.knee_index`.

    Raises:
        StorageError: no trial is complete.
    """
    done = _at_least_one(of_highest_fidelity(records))
    return done[pareto.knee_index([r.accuracy for r in done], [r.cost for r in done])]


@dataclass(frozen=True, slots=True)
class Hypervolumes:
    """Hypervolumes over log10 cost, with their reference point (accuracy, cost)."""

    all: float
    search: float
    baselines: float
    reference_point: tuple[float, int]


def hypervolumes(records: Sequence[TrialRecord]) -> Hypervolumes:
    """Return the hypervolumes of all networks, of searched networks and of baselines.

    The reference point is accuracy 0 at the largest cost of a trained network.

    Raises:
        StorageError: no trial is complete.
    """
    done = _at_least_one(of_highest_fidelity(records))
    worst = max(r.cost for r in done)

    def volume(group: list[TrialRecord]) -> float:
        costs = [math.log10(r.cost) for r in group]
        return pareto.hypervolume([r.accuracy for r in group], costs, (0.0, math.log10(worst)))

    searched = [r for r in done if not r.is_baseline]
    baselines = [r for r in done if r.is_baseline]
    return Hypervolumes(volume(done), volume(searched), volume(baselines), (0.0, worst))


def _at_least_one(records: list[TrialRecord]) -> list[TrialRecord]:
    if not records:
        raise StorageError("expected at least one complete trial, got none yet")
    return records
