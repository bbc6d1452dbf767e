"""Predictions that a study keeps of a network, beside those of a reference of similar cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.study.artifacts import Artifacts
from mbsearch.study.records import Predictions, TrialRecord


@dataclass(frozen=True, slots=True)
class KeptPredictions:
    """Predictions of a network on one split, and of a labelled reference if there is one.

    `own` and `reference` have one entry a seed.
    """

    split: str
    own: Sequence[Predictions]
    reference: Sequence[Predictions] = ()
    label: str | None = None

    def description(self) -> str:
        """Return images, split and seeds: ``2,000 images of the test split, 1 seed``."""
        seeds = "1 seed" if len(self.own) == 1 else f"the mean of {len(self.own)} seeds"
        beside = "" if self.label is None else f", beside {self.label}"
        return f"{len(self.own[0].labels):,} images of the {self.split} split, {seeds}{beside}."


def kept_predictions(
    records: Sequence[TrialRecord], measured: Artifacts, record: TrialRecord
) -> KeptPredictions | None:
    """Return the predictions of a network on the test split if it was retrained.

    Else those of the finals on the validation split; None if there are neither.
    """
    return _retrained(measured, record) or _finals(records, record)


def _retrained(measured: Artifacts, record: TrialRecord) -> KeptPredictions | None:
    networks = measured.retrained_beside(record.fingerprint)
    own = next((n for n in networks if n.fingerprint == record.fingerprint), None)
    if own is None or not own.predictions:
        return None
    others = [n for n in networks if n.fingerprint != record.fingerprint and n.predictions]
    if not others:
        return KeptPredictions("test", own.predictions)
    return KeptPredictions("test", own.predictions, others[0].predictions, others[0].name)


def _finals(records: Sequence[TrialRecord], record: TrialRecord) -> KeptPredictions | None:
    own = _of_finals(record)
    if not own:
        return None
    others = [r for r in records if r.is_baseline and r.trial != record.trial and _of_finals(r)]
    if not others:
        return KeptPredictions("validation", own)

    def distance(other: TrialRecord) -> float:
        return abs(math.log(other.cost / record.cost))

    nearest = min(others, key=distance)
    return KeptPredictions("validation", own, _of_finals(nearest), nearest.label)


def _of_finals(record: TrialRecord) -> list[Predictions]:
    return [final.predictions for final in record.finals if final.predictions is not None]
