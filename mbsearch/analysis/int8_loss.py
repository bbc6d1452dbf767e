"""Accuracy of a network as int8 minus that of the same weights in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mbsearch.analysis.intervals import Interval, points
from mbsearch.analysis.paired_comparison import compare
from mbsearch.study.records import TrialRecord


def int8_difference(record: TrialRecord) -> Interval | None:
    """Return the int8 accuracy minus the float32 accuracy of a network's first final.

    The difference is paired by validation image. Both networks have the same weights, so that it
    has no noise over seeds. None if the final was not validated as int8.
    """
    final = record.finals[0] if record.finals else None
    if final is None or final.int8 is None or final.predictions is None:
        return None
    return compare([final.int8.predictions.correct], [final.predictions.correct], 0.0)


def is_loss(difference: Interval) -> bool:
    """Return whether int8 is significantly less accurate."""
    return difference.significant and difference.high < 0


def int8_text(record: TrialRecord) -> str:
    """Return ``0.860 (-4.0 points)``, the int8 accuracy; empty if it is unknown.

    A significant loss is marked: ``0.860 (-4.0 points, significant)``.
    """
    difference = int8_difference(record)
    if difference is None:
        return ""
    mark = ", significant" if is_loss(difference) else ""
    return f"{record.int8_accuracy:.3f} ({points(difference.mean)} points{mark})"


def with_int8_accuracy(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records of the networks validated as int8, with that accuracy as their own."""
    found = []
    for record in records:
        if (accuracy := record.int8_accuracy) is not None:
            evaluation = replace(record.finals[0], accuracy=accuracy)
            found.append(
                replace(
                    record,
                    evaluation=evaluation,
                    accuracy_noise=None,
                    promotion=None,
                    promotion_noise=None,
                    predicted=None,
                    predicted_deviation=None,
                )
            )
    return found
