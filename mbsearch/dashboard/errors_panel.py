"""Panel of a network's page: its errors, next to those of a reference of equal cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from mbsearch.analysis.class_errors import ClassErrors
from mbsearch.dashboard import parts
from mbsearch.dashboard.studies import Snapshot
from mbsearch.figures.errors import CONFUSIONS_HEAD, confusion_figure, error_rows, recall_figure
from mbsearch.study.records import Predictions, TrialRecord

_LEAST_HEIGHT, _ROW_HEIGHT = 240, 24  # pixels


@dataclass(frozen=True, slots=True)
class _Predicted:
    """Predictions of a network on one split, and of a labelled reference if there is one."""

    split: str
    own: Sequence[Predictions]
    reference: Sequence[Predictions] = ()
    label: str | None = None


def errors_panel(snapshot: Snapshot, record: TrialRecord) -> Component | None:
    """Return confusion matrix, recalls and frequent confusions; None without predictions.

    After retraining they are of the test split, else of the validation split by the finals.
    """
    found = _retrained(snapshot, record) or _finals(snapshot, record)
    if found is None:
        return None
    images = snapshot.findings.images
    names = () if images is None else images.class_names
    errors = ClassErrors.of(found.own, found.reference, names)
    beside = "" if found.label is None else f", beside {found.label}"
    seeds = "1 seed" if len(found.own) == 1 else f"the mean of {len(found.own)} seeds"
    height = f"{_LEAST_HEIGHT + _ROW_HEIGHT * min(30, len(errors.names))}px"
    description = (
        f"{len(found.own[0].labels):,} images of the {found.split} split, {seeds}{beside}."
    )
    return parts.panel(
        "Where it errs",
        dmc.Text(description, size="sm", c="dimmed", id="errors-of"),
        dmc.SimpleGrid(
            [
                parts.graph("confusion", confusion_figure(errors), "Confusion matrix", height),
                parts.graph(
                    "recall", recall_figure(errors, found.label), "Recall of each class", height
                ),
            ],
            cols={"base": 1, "md": 2},
        ),
        dmc.Text("Most frequent confusions", fw=500, mt="sm"),
        html.Div(parts.table(CONFUSIONS_HEAD, error_rows(errors), 2), id="confusions"),
        mb="md",
        id="errors",
    )


def _retrained(snapshot: Snapshot, record: TrialRecord) -> _Predicted | None:
    networks = snapshot.measured.retrained_beside(record.fingerprint)
    own = next((n for n in networks if n.fingerprint == record.fingerprint), None)
    if own is None or not own.predictions:
        return None
    others = [n for n in networks if n.fingerprint != record.fingerprint and n.predictions]
    if not others:
        return _Predicted("test", own.predictions)
    return _Predicted("test", own.predictions, others[0].predictions, others[0].name)


def _finals(snapshot: Snapshot, record: TrialRecord) -> _Predicted | None:
    own = _kept(record)
    if not own:
        return None
    others = [r for r in snapshot.records if r.is_baseline and r.trial != record.trial and _kept(r)]
    if not others:
        return _Predicted("validation", own)

    def distance(other: TrialRecord) -> float:
        return abs(math.log(other.cost / record.cost))

    nearest = min(others, key=distance)
    return _Predicted("validation", own, _kept(nearest), nearest.label)


def _kept(record: TrialRecord) -> list[Predictions]:
    return [final.predictions for final in record.finals if final.predictions is not None]
