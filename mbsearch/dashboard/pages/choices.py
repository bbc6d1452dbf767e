"""Page on the space's choices: their importance, and the best options by cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.choice_effects import (
    MIN_NETWORKS,
    Effect,
    cost_bands,
    effects,
    rules,
    searched,
)
from mbsearch.dashboard import parts
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.choices import importance_figure, options_figure, parallel_figure
from mbsearch.figures.front import front_figure
from mbsearch.study.records import TrialRecord, score_of_study

TITLE, ADDRESS, ORDER = "What matters", "choices", 5
NEEDS = "results"


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the components of the page."""
    records = snapshot.records
    found = effects(records)
    if not found:
        return parts.notice_alone(
            "Too few networks",
            f"At least {MIN_NETWORKS} completed networks of the space are needed, with options "
            f"that differ; this study has {len(searched(records))}.",
        )
    choice, score = _choice(View.parse(fields), found), score_of_study(records)
    return html.Div(
        [
            parts.page_title("What matters"),
            dcc.Store(id="choices-drawn", data=_drawn(snapshot, choice)),
            parts.panel(
                "Which options are better",
                dmc.Text(
                    _scope(records),
                    size="sm",
                    c="dimmed",
                ),
                html.Ul([html.Li(rule) for rule in rules(records)], id="rules"),
                mb="md",
            ),
            parts.panel(
                "Which choices matter",
                parts.graph(
                    "importance",
                    importance_figure(found),
                    "Importance of each choice",
                    f"{90 + 22 * len(found)}px",
                ),
                mb="md",
            ),
            parts.panel(
                f"{score.heading} by option, at equal cost",
                dmc.Select(
                    id={"control": "choice"},
                    label="Choice",
                    value=choice,
                    data=[effect.choice for effect in found],
                    allowDeselect=False,
                    searchable=True,
                    maw=320,
                ),
                dmc.Text(
                    f"Points of {score.noun} above or below what is expected of a network's cost.",
                    size="sm",
                    c="dimmed",
                    mt="xs",
                ),
                html.Div(
                    parts.graph(
                        "distribution",
                        options_figure(records, _effect(choice, found)),
                        f"{score.heading} at equal cost by option, with means and their intervals",
                        "420px",
                    ),
                    className="wide",
                    tabIndex=0,
                ),
                mb="md",
            ),
            parts.panel(
                "All choices at once",
                dmc.Text(
                    "Draw a box around networks of the front to see their choices below; "
                    "drag along an axis below to keep a range of it.",
                    size="sm",
                    c="dimmed",
                ),
                _small_front(records),
                html.Div(
                    parts.graph(
                        "parallel",
                        _parallel(records, found, None),
                        f"Choices, cost and {score.noun} of each network as a line",
                        "420px",
                        tools=False,
                    ),
                    className="wide",
                    tabIndex=0,
                ),
            ),
        ]
    )


def redraw_key(snapshot: Snapshot, _fields: Fields) -> Any:
    """Return the names of the choices whose effect can be computed from the networks."""
    return sorted(effect.choice for effect in effects(snapshot.records))


def register(app: Dash, library: Library) -> None:
    """Register the callbacks for the selected choice and the selected networks."""

    @app.callback(
        Output("importance", "figure"),
        Output("rules", "children"),
        Output("distribution", "figure"),
        Output("small-front", "figure"),
        Output("parallel", "figure", allow_duplicate=True),
        Output("choices-drawn", "data"),
        Input("view", "data"),
        Input("version", "data"),
        State("small-front", "selectedData"),
        State("choices-drawn", "data"),
        prevent_initial_call=True,
    )
    def redraw(
        fields: Fields, _version: Any, selected: dict[str, Any] | None, drawn: dict[str, Any]
    ) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        records = snapshot.records
        found = effects(records)
        if not found:  # the page shows a notice instead
            return (no_update,) * 6
        choice = _choice(View.parse(fields), found)
        now = _drawn(snapshot, choice)
        if now == drawn:
            return (no_update,) * 6
        changed = now["networks"] != drawn["networks"]
        return (
            importance_figure(found) if changed else no_update,
            [html.Li(rule) for rule in rules(records)] if changed else no_update,
            options_figure(records, _effect(choice, found)),
            _selectable_front(records) if changed else no_update,
            _parallel(records, found, selected) if changed else no_update,
            now,
        )

    @app.callback(
        Output("parallel", "figure"),
        Input("small-front", "selectedData"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def follow(selected: dict[str, Any] | None, fields: Fields) -> Any:
        records = library.snapshot(fields.get("study")).records
        return _parallel(records, effects(records), selected)


def _choice(view: View, found: Sequence[Effect]) -> str:
    names = [effect.choice for effect in found]
    return view.choice if view.choice in names else names[0]


def _effect(choice: str, found: Sequence[Effect]) -> Effect:
    return next(effect for effect in found if effect.choice == choice)


def _scope(records: Sequence[TrialRecord]) -> str:
    """Return text on the networks and cost ranges that the page's statements are based on."""
    networks, bands = len(searched(records)), len(cost_bands(records))
    ranges = "one range of cost" if bands == 1 else f"{bands} ranges of cost"
    return (
        f"Significant differences of mean {score_of_study(records).noun} at equal cost, among "
        f"{networks:,} networks in {ranges}. Each range needs {MIN_NETWORKS} networks."
    )


def _drawn(snapshot: Snapshot, choice: str) -> dict[str, Any]:
    return {"networks": len(searched(snapshot.records)), "choice": choice}


def _parallel(
    records: Sequence[TrialRecord], found: Sequence[Effect], selected: dict[str, Any] | None
) -> Any:
    """Return parallel coordinates of the selected networks, or of all networks."""
    points = (selected or {}).get("points") or []
    trials = {point["customdata"][0] for point in points if "customdata" in point}
    return parallel_figure([r for r in records if not trials or r.trial in trials], found)


def _small_front(records: Sequence[TrialRecord]) -> Component:
    description = f"{score_of_study(records).heading} against cost, to select from"
    return parts.graph("small-front", _selectable_front(records), description, "360px")


def _selectable_front(records: Sequence[TrialRecord]) -> Any:
    figure = front_figure(records).update_layout(
        dragmode="select", showlegend=False, uirevision="small"
    )
    figure.update_traces(mode="markers", selector={"mode": "lines+markers+text"})
    # All networks can be selected, so the axis has no note on hidden ones.
    title = figure.layout.yaxis.title.text.partition(";")[0]
    return figure.update_yaxes(title_text=title, autorangeoptions=None)
