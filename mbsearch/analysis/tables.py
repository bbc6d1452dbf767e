"""Records as a data frame, and the Pareto front as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mbsearch.analysis.front import front_of
from mbsearch.study.records import TrialRecord

if TYPE_CHECKING:
    import pandas as pd


def front_rows(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return the front as plain data, one object per network, for ``status --json``."""
    return [_plain(r) for r in front_of(records)]


def _plain(record: TrialRecord) -> dict[str, Any]:
    return {
        "trial": record.trial,
        "origin": record.origin,
        "accuracy": record.accuracy,
        "accuracy_noise": record.accuracy_noise,
        "expected": record.predicted,
        "promoted": record.promotion is not None,
        **_int8(record),
        "mult_adds": record.mult_adds,
        "params": record.costs["params"],
        record.metric: record.cost,
        "alpha": record.architecture.alpha,
        "resolution": record.architecture.resolution.plain,
    }


def _int8(record: TrialRecord) -> dict[str, float]:
    """Return the accuracies of a final in float32 and as int8; empty if it has none as int8."""
    accuracy = record.int8_accuracy
    if accuracy is None:
        return {}
    return {"final_accuracy": record.finals[0].accuracy, "int8_accuracy": accuracy}


def to_frame(
    records: Sequence[TrialRecord], within: Sequence[TrialRecord] | None = None
) -> pd.DataFrame:
    """Return records as a data frame: identity, state, costs, evaluation, one column per choice.

    `within` are the records inside the study's limits and budgets, of which the front is computed;
    all by default.
    """
    import pandas as pd

    on_front = {r.trial for r in front_of(records if within is None else within)}
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
            "final_accuracy": r.finals[0].accuracy if r.finals else None,
            "int8_accuracy": r.int8_accuracy,
            "expected": r.predicted,
            "validation_loss": evaluation.validation_loss if evaluation else None,
            **r.costs,
            "alpha": r.architecture.alpha,
            "resolution": r.architecture.resolution.plain,
            "num_classes": r.architecture.num_classes,
            "fingerprint": r.fingerprint,
            "seconds": evaluation.seconds if evaluation else None,
            "promoted_seconds": promotion.seconds if promotion else None,
            "seed": evaluation.seed if evaluation else None,
            "pixels": evaluation.pixels.plain if evaluation else None,
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
