"""The page of the published ImageNet tables, kept apart from the accuracies of a proxy."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html
from dash.development.base_component import Component

from mbsearch.dashboard import parts
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.published import AXES, FAMILIES, published_figure
from mbsearch.published import published


def layout(_snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """The whole page."""
    axis = View.parse(fields).axis
    return html.Div(
        [
            dmc.Title("Published results on ImageNet", order=1, size="h3", mb="xs"),
            dmc.Text(
                "Top-1 accuracies of long trainings by the authors. They are not comparable with "
                "the proxy's accuracies on the other pages.",
                c="dimmed",
                mb="sm",
            ),
            dmc.SegmentedControl(
                id={"control": "axis"},
                value=axis,
                data=[{"value": key, "label": title} for key, title in AXES.items()],
            ),
            parts.graph(
                "published",
                published_figure(published(), axis),
                "ImageNet accuracy against cost of published networks",
            ),
            parts.panel("Every row, with its source", _table(), mt="md"),
        ]
    )


def register(app: Dash, _library: Library) -> None:
    """Another cost, another axis."""

    @app.callback(Output("published", "figure"), Input("view", "data"), prevent_initial_call=True)
    def redraw(fields: Fields) -> object:
        return published_figure(published(), View.parse(fields).axis)


def _table() -> Component:
    head = ("Network", "Family", "Source", "Top-1", "Mult-Adds (M)", "Params (M)", "Pixel 1 (ms)")
    rows = [
        [
            r.model,
            FAMILIES[r.family][0],
            html.Span(r.source, className="source"),
            f"{r.top1:.1%}",
            f"{r.mult_adds / 1e6:g}",
            f"{r.params / 1e6:g}",
            "" if r.pixel1_ms is None else f"{r.pixel1_ms:g}",
        ]
        for r in published()
    ]
    return parts.table(head, rows, text_columns=3)
