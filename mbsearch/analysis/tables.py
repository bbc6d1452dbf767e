"""Results of a study: the front, its knee and hypervolume, and tables."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbsearch.analysis import pareto
from mbsearch.cost.metrics import round_amounts
from mbsearch.errors import StorageError
from mbsearch.study.records import TrialRecord, complete, metric_of, shown

if TYPE_CHECKING:
    import pandas as pd


def front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The networks that no other one beats in accuracy and cost, cheapest first."""
    done = shown(records)
    indices = pareto.pareto_front([r.accuracy for r in done], [r.cost for r in done])
    return [done[i] for i in indices]


def knee(records: Sequence[TrialRecord]) -> TrialRecord:
    """The network of the front from which on more cost pays least.

    Raises:
        StorageError: no trial is complete.
    """
    done = _some(shown(records))
    return done[pareto.knee([r.accuracy for r in done], [r.cost for r in done])]


def by_trial(records: Sequence[TrialRecord], trial: int) -> TrialRecord:
    """The record with this number, as its longest training tells it.

    Raises:
        StorageError: there is none.
    """
    for record in records:
        if record.trial == trial:
            return record.highest
    last = max((r.trial for r in records), default=None)
    numbers = "no trials yet"
    if last is not None:
        numbers = f"0 to {last}, but for those that only repeat another's training"
    raise StorageError(f"trial {trial}: expected a trial of the study ({numbers})")


def _some(records: list[TrialRecord]) -> list[TrialRecord]:
    if not records:
        raise StorageError("expected at least one complete trial, got none yet")
    return records


def mobilenets(records: Sequence[TrialRecord], budget: int) -> list[TrialRecord]:
    """The most accurate reference of each family within a cost, by the proxy's training."""
    within = [r for r in complete(list(records)) if r.cost <= budget and r.is_baseline]
    names = sorted({r.origin for r in within})
    families = [[r for r in within if r.origin == family] for family in names]
    return [max(family, key=lambda r: (r.accuracy, -r.cost)) for family in families if family]


def natural_budgets(records: Sequence[TrialRecord]) -> list[int]:
    """Round budgets of the study's cost (1, 2, 5, 10, ... M) inside the range that was trained."""
    costs = [r.cost for r in shown(records)]
    if not costs:
        return []
    low, high = min(costs), max(costs)
    inside = [round(b) for b in round_amounts(metric_of(records)) if low <= b < 2 * high]
    return inside or [high]


@dataclass(frozen=True, slots=True)
class Hypervolumes:
    """Area under the front over log10 of the cost, with its reference point (accuracy, cost)."""

    all: float
    search: float
    baselines: float
    reference_point: tuple[float, int]


def hypervolumes(records: Sequence[TrialRecord]) -> Hypervolumes:
    """Hypervolume of everything, of the search alone, and of the baselines alone.

    The reference point is accuracy 0 at the dearest trained network.

    Raises:
        StorageError: no trial is complete.
    """
    done = _some(shown(records))
    worst = max(r.cost for r in done)

    def volume(group: list[TrialRecord]) -> float:
        costs = [math.log10(r.cost) for r in group]
        return pareto.hypervolume([r.accuracy for r in group], costs, (0.0, math.log10(worst)))

    searched = [r for r in done if not r.is_baseline]
    baselines = [r for r in done if r.is_baseline]
    return Hypervolumes(volume(done), volume(searched), volume(baselines), (0.0, worst))


def front_rows(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The front as plain data, one object a network, as ``status --json`` prints it."""
    return [_plain(r) for r in front(records)]


def _plain(record: TrialRecord) -> dict[str, Any]:
    return {
        "trial": record.trial,
        "origin": record.origin,
        "accuracy": record.accuracy,
        "accuracy_noise": record.accuracy_noise,
        "expected": record.expected,
        "promoted": record.promotion is not None,
        "mult_adds": record.mult_adds,
        "params": record.costs["params"],
        record.metric: record.cost,
        "alpha": record.architecture.alpha,
        "resolution": record.architecture.resolution,
    }


def to_frame(
    records: Sequence[TrialRecord], within: Sequence[TrialRecord] | None = None
) -> pd.DataFrame:
    """Every record as a row: identity, state, costs, evaluation, and one column a choice.

    The front is of the records `within` the study's limits and budgets; of all by default.
    """
    import pandas as pd

    on_front = {r.trial for r in front(records if within is None else within)}
    rows = []
    for r in records:
        evaluation, promotion = r.evaluation, r.promotion
        row: dict[str, Any] = {
            "trial": r.trial,
            "origin": r.origin,
            "state": str(r.state),
            "on_front": r.trial in on_front,
            "accuracy": evaluation.accuracy if evaluation else None,
            "accuracy_noise": r.accuracy_noise,
            "promoted_accuracy": promotion.accuracy if promotion else None,
            "expected": r.expected,
            "validation_loss": evaluation.validation_loss if evaluation else None,
            **r.costs,
            "alpha": r.architecture.alpha,
            "resolution": r.architecture.resolution,
            "num_classes": r.architecture.num_classes,
            "fingerprint": r.fingerprint,
            "seconds": evaluation.seconds if evaluation else None,
            "promoted_seconds": promotion.seconds if promotion else None,
            "seed": evaluation.seed if evaluation else None,
            "pixels": evaluation.pixels if evaluation else None,
            "device": evaluation.device if evaluation else None,
            "versions": json.dumps(dict(evaluation.versions)) if evaluation else None,
            "recipe": json.dumps(dict(evaluation.recipe)) if evaluation else None,
            "promoted_recipe": json.dumps(dict(promotion.recipe)) if promotion else None,
            "curve": json.dumps(evaluation.to_dict()["curve"]) if evaluation else None,
            "error": r.error,
            "started": r.started,
            "ended": r.ended,
        }
        rows.append(row | {f"choice {name}": value for name, value in r.params.items()})
    return pd.DataFrame(rows)
