"""Pareto front of a study's records, and its knee."""

from __future__ import annotations

from collections.abc import Sequence

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
    done = of_highest_fidelity(records)
    if not done:
        raise StorageError("expected at least one complete trial, got none yet")
    return done[pareto.knee_index([r.accuracy for r in done], [r.cost for r in done])]
