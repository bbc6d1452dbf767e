"""Panel of a network's page: its errors, next to those of a reference of equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.class_errors import class_errors
from mbsearch.analysis.kept_predictions import kept_predictions
from mbsearch.analysis.worst_errors import (
    WORST_ERRORS,
    ErrorPictures,
    PictureRequest,
    WorstError,
    worst_errors,
)
from mbsearch.dashboard import parts
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.figures.errors import CONFUSIONS_HEAD, confusion_figure, error_rows, recall_figure
from mbsearch.study.records import TrialRecord

_LEAST_HEIGHT, _ROW_HEIGHT = 240, 24  # pixels


def errors_panel(snapshot: Snapshot, record: TrialRecord) -> Component | None:
    """Return confusion matrix, recalls and frequent confusions; None without predictions.

    After retraining they are of the test split, else of the validation split by the finals.
    """
    found = kept_predictions(snapshot.records, snapshot.measured, record)
    if found is None:
        return None
    errors = class_errors(found, snapshot.findings.images)
    height = f"{_LEAST_HEIGHT + _ROW_HEIGHT * min(30, len(errors.names))}px"
    return parts.panel(
        "Where it errs",
        dmc.Text(found.description(), size="sm", c="dimmed", id="errors-of"),
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
        dmc.Text("Worst errors", fw=500, mt="md"),
        dmc.Text(WORST_ERRORS, size="sm", c="dimmed"),
        dcc.Store(id="error-trial", data=record.trial),
        html.Div(
            _worst(worst_errors(found.own), errors.names, ErrorPictures(), "Reading the images."),
            id="worst-errors",
            **parts.aria(live="polite"),
        ),
        mb="md",
        id="errors",
    )


def register_pictures(app: Dash, library: Library) -> None:
    """Register the callback that reads the pictures after the page is drawn."""

    @app.callback(
        Output("worst-errors", "children"),
        Input("error-trial", "data"),
        State("view", "data"),
    )
    def show(trial: int, fields: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        record = next((r for r in snapshot.records if r.trial == trial), None)
        if record is None:
            return no_update
        kept = kept_predictions(snapshot.records, snapshot.measured, record)
        if kept is None:
            return no_update
        worst = worst_errors(kept.own)
        request = PictureRequest.of(snapshot.settings, kept, worst)
        pictures = library.pictures.read(snapshot.name, request)
        names = class_errors(kept, snapshot.findings.images).names
        problem = pictures.problem and f"The images cannot be shown: {pictures.problem}."
        return _worst(worst, names, pictures, problem)


def _worst(
    worst: Sequence[WorstError], names: Sequence[str], pictures: ErrorPictures, note: str
) -> list[Component]:
    """Return the errors as captions with pictures, whose places are kept while there are none."""
    return [
        dmc.Text(note, size="sm", className="note"),
        html.Div(
            [
                html.Figure(
                    [
                        html.Div(
                            []
                            if (source := pictures.source(i)) is None
                            else html.Img(src=source, alt=f"Image of {names[each.true]}"),
                            className="picture",
                        ),
                        html.Figcaption(
                            [html.Strong(names[each.true]), f" as {each.caption(names)}"]
                        ),
                    ]
                )
                for i, each in enumerate(worst)
            ],
            className="pictures",
        ),
    ]
