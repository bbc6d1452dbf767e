"""Page that compares up to four networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.fidelity_levels import finals_accuracies
from mbsearch.analysis.front import front_of
from mbsearch.config.families import COMPETITORS
from mbsearch.dashboard import parts
from mbsearch.dashboard.pages.network import chosen
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.comparison import (
    compared_facts,
    comparison,
    comparison_head,
    comparison_rows,
)
from mbsearch.figures.network import curve_figure, nearest
from mbsearch.figures.stages import drawing, drawing_height
from mbsearch.study.records import TrialRecord, complete

TITLE, ADDRESS, ORDER = "Compare", "compare", 3
NEEDS = "results"

_MOST_OTHERS = 3


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the page; by default, the other networks are references of similar cost."""
    networks = compared(snapshot, fields)
    if len(networks) < 2:
        return parts.notice_alone(
            "Nothing to compare", "Select a network on the front, and shift-click another one."
        )
    view = View.parse(fields)
    return html.Div(
        [
            dmc.Title("Compare networks", order=1, size="h3", mb="sm"),
            dmc.Group(_menus(view, networks, snapshot), mb="md", align="start"),
            dcc.Store(id="compare-drawn", data=_drawn(view, networks)),
            html.Div(_compared(networks, snapshot, view), id="compared"),
        ]
    )


def redraw_key(snapshot: Snapshot, fields: Fields) -> Any:
    """Return the trials on the front, and the compared networks' states and accuracies."""
    choice = [r.trial for r in front_of(snapshot.records)]
    found = compared(snapshot, fields)
    return [choice, *([r.trial, str(r.state), parts.accuracy(r)] for r in found)]


def register(app: Dash, library: Library) -> None:
    """Register the callback that redraws the comparison for another network."""

    @app.callback(
        Output("compared", "children"),
        Output("compare-drawn", "data"),
        Input("view", "data"),
        State("compare-drawn", "data"),
        prevent_initial_call=True,
    )
    def redraw(fields: Fields, drawn: list[Any]) -> Any:
        snapshot, view = library.snapshot(fields.get("study")), View.parse(fields)
        networks = compared(snapshot, fields)
        now = _drawn(view, networks)
        if len(networks) < 2 or now == drawn:
            return no_update, no_update
        return _compared(networks, snapshot, view), now


def compared(snapshot: Snapshot, fields: Fields) -> list[TrialRecord]:
    """Return the selected network and at most three others, by default similar references.

    The references are those of each family whose cost is most similar, within the study's first
    budget if the selected network is within it.
    """
    first, view = chosen(snapshot, fields), View.parse(fields)
    if first is None:
        return []
    by_trial = {r.trial: r for r in snapshot.records}
    others = [by_trial[t] for t in view.others if t in by_trial and t != first.trial]
    if others:
        return [first, *others[:_MOST_OTHERS]]
    budgets = snapshot.questions[:1]
    bounded = [b for b in budgets if b.excess(first.costs) is None]
    pool = [r for r in snapshot.records if all(b.excess(r.costs) is None for b in bounded)]
    found = [nearest(pool, family, first.cost) for family in reversed(COMPETITORS)]
    return [first, *(r for r in found if r is not None and r.trial != first.trial)]


def _drawn(view: View, networks: Sequence[TrialRecord]) -> list[Any]:
    return [view.rows, *(r.trial for r in networks)]


def _menus(view: View, networks: Sequence[TrialRecord], snapshot: Snapshot) -> list[Component]:
    """Return the menus that choose networks, and the control that chooses the rows shown."""
    done = complete(list(snapshot.records))
    choice = [*front_of(snapshot.findings.within), *(r for r in done if r.is_baseline), *networks]
    data = [
        {"value": str(trial), "label": name}
        for trial, name in {r.trial: r.label for r in choice}.items()
    ]
    first, *others = networks
    return [
        dmc.Select(
            id={"control": "trial"},
            label="Network",
            value=None if view.trial is None else str(view.trial),
            data=data,
            placeholder=first.label,
            clearable=True,
            searchable=True,
        ),
        dmc.MultiSelect(
            id={"control": "other"},
            label="Compared with (at most three)",
            value=[str(trial) for trial in view.others],
            data=data,
            placeholder="" if view.others else ", ".join(r.label for r in others),
            maxValues=_MOST_OTHERS,
            clearable=True,
            searchable=True,
            miw=300,
        ),
        dmc.Stack(
            [
                dmc.Text("Rows", size="sm", fw=500),
                dmc.SegmentedControl(
                    id={"control": "rows"},
                    value=view.rows,
                    data=[
                        {"value": "differences", "label": "Differences"},
                        {"value": "all", "label": "All"},
                    ],
                ),
            ],
            gap=2,
        ),
    ]


def _compared(networks: Sequence[TrialRecord], snapshot: Snapshot, view: View) -> Component:
    first, *others = networks
    facts = compared_facts(networks, snapshot.measured, finals_accuracies(snapshot.findings))
    rows = comparison_rows(facts, equal=view.rows == "all")
    architectures = [r.architecture for r in networks]
    return html.Div(
        [
            html.Div(
                [dmc.Text(comparison(first, each), size="lg") for each in others],
                id="comparison",
            ),
            parts.panel(
                "Side by side",
                dmc.Text(f"Difference and ratio are to {first.label}.", size="sm", c="dimmed"),
                html.Div(parts.table(comparison_head(networks), rows), id="differences"),
                my="md",
            ),
            parts.panel(
                "Learning curves",
                parts.graph(
                    "curves",
                    curve_figure(networks, snapshot.records),
                    f"Validation {first.score.noun} over epochs",
                    "380px",
                ),
                mb="md",
            ),
            *(
                parts.panel(
                    record.label,
                    dmc.Text("All drawings have the same scale.", size="sm", c="dimmed"),
                    html.Div(
                        parts.graph(
                            f"drawing-{i}",
                            drawing(record.architecture, architectures),
                            f"Drawing of {record.label}",
                            f"{drawing_height(record.architecture)}px",
                            tools=False,
                        ),
                        className="wide",
                        tabIndex=0,
                    ),
                    mb="md",
                )
                for i, record in enumerate(networks)
            ),
        ]
    )
