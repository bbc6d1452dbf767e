"""Decide which finals are validated as int8 networks, within a share of the training time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from mbsearch.study.records import TrialRecord

SHARE = 0.05
"""Largest share of a search's training time that int8 validations take by default."""
_USUAL_SECONDS = 5.0  # of one validation, before any was measured


def is_validated(wanted: bool | None, records: Sequence[TrialRecord], running: int = 0) -> bool:
    """Return whether the next final is validated as an int8 network.

    Args:
        wanted: as `Finals.int8`; None keeps all validations within `SHARE` of the training time.
        records: records of the study.
        running: number of int8 validations that are under way.
    """
    if wanted is not None:
        return wanted
    measured = [f.int8.seconds for r in records for f in r.finals if f.int8 is not None]
    each = fmean(measured) if measured else _USUAL_SECONDS
    trained = sum(
        evaluation.seconds
        for r in records
        for evaluation in (r.evaluation, r.promotion, *r.finals)
        if evaluation is not None
    )
    return sum(measured) + (running + 1) * each <= SHARE * trained


def left_out(wanted: bool | None, records: Sequence[TrialRecord]) -> str | None:
    """Return a sentence about the finals that `is_validated` left out; None without any."""
    finals = [r.finals[0] for r in records if r.finals]
    missing = sum(final.int8 is None for final in finals)
    if wanted is not None or not missing:
        return None
    return (
        f"int8: {missing} of {len(finals)} finals have no int8 accuracy, to keep its time within "
        f"{SHARE:.0%} of the training time; `finals: {{int8: true}}` validates all"
    )
