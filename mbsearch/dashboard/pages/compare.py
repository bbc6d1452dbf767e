"""Page for comparing two networks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.front import front_of
from mbsearch.analysis.intervals import Z_95
from mbsearch.config.families import COMPETITORS
from mbsearch.cost.metrics import find_metric, quantity
from mbsearch.dashboard import parts
from mbsearch.dashboard.pages.network import chosen, shown, training
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.network import curve_figure, drawing, nearest
from mbsearch.study.records import State as TrialState
from mbsearch.study.records import TrialRecord, complete

TITLE, ADDRESS, ORDER = "Compare", "compare", 3


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the components of the page; the second network is a MobileNet by default."""
    pair = _pair(snapshot, fields)
    if pair is None:
        return parts.notice(
            "Nothing to compare", "Select a network on the front, and shift-click another one."
        )
    view = View.parse(fields)
    return html.Div(
        [
            dmc.Group(
                [
                    _select("trial", "Network", view.trial, pair[0], snapshot),
                    _select("other", "Compared with", view.other, pair[1], snapshot),
                ],
                mb="md",
            ),
            dcc.Store(id="compare-drawn", data=[r.trial for r in pair]),
            html.Div(_compared(pair, snapshot), id="compared"),
        ]
    )


def redraw_key(snapshot: Snapshot, fields: Fields) -> Any:
    """Return the accuracies of both networks, and the networks in the menus."""
    pair = _pair(snapshot, fields)
    if pair is None:
        return None
    choice = [r.trial for r in front_of(snapshot.records)]
    return [choice, *([r.trial, str(r.state), *_accuracies(r).values()] for r in pair)]


def register(app: Dash, library: Library) -> None:
    """Register the callback that redraws the comparison for another network."""

    @app.callback(
        Output("compared", "children"),
        Output("compare-drawn", "data"),
        Input("view", "data"),
        State("compare-drawn", "data"),
        prevent_initial_call=True,
    )
    def redraw(fields: Fields, drawn: list[int]) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        pair = _pair(snapshot, fields)
        if pair is None or [r.trial for r in pair] == drawn:
            return no_update, no_update
        return _compared(pair, snapshot), [r.trial for r in pair]


def _select(
    field: str, title: str, chosen: int | None, shown: TrialRecord, snapshot: Snapshot
) -> Component:
    """Return a menu with the networks of the front and the baselines."""
    done = complete(list(snapshot.records))
    choice = [*front_of(snapshot.findings.within), *(r for r in done if r.is_baseline), shown]
    return dmc.Select(
        id={"control": field},
        label=title,
        value=None if chosen is None else str(chosen),
        data=[
            {"value": str(trial), "label": name}
            for trial, name in {r.trial: r.label for r in choice}.items()
        ],
        placeholder=shown.label,
        clearable=True,
        searchable=True,
    )


def _compared(pair: tuple[TrialRecord, TrialRecord], snapshot: Snapshot) -> Component:
    first, second = pair
    return html.Div(
        [
            dmc.Title(f"{first.label} and {second.label}", order=1, size="h3"),
            dmc.Text(_capital(comparison(first, second)), size="lg", mb="md", id="comparison"),
            *(
                parts.panel(
                    record.label,
                    dmc.Text("Each drawing has its own scale.", size="sm", c="dimmed"),
                    html.Div(
                        parts.graph(
                            f"drawing-{i}",
                            drawing(record.architecture),
                            f"Drawing of {record.label}",
                            "340px",
                            tools=False,
                        ),
                        className="wide",
                    ),
                    mb="md",
                )
                for i, record in enumerate(pair)
            ),
            parts.panel(
                "Learning curves",
                parts.graph(
                    "curves",
                    curve_figure(pair, snapshot.records),
                    "Validation accuracy over epochs",
                    "380px",
                ),
                mb="md",
            ),
            parts.panel("Differences first", _table(first, second)),
        ]
    )


def comparison(first: TrialRecord, second: TrialRecord) -> str:
    """Return a sentence on the differences in cost and accuracy, with significance."""
    ratio = first.cost / second.cost
    noun = find_metric(first.metric).noun
    cost = f"{first.label} needs {ratio:.2f} times the {noun} of {second.label}"
    if first.evaluation is None or second.evaluation is None:
        return f"{cost}."
    after = ""
    if first.promotion is not None and second.promotion is not None:
        first, second = first.at_highest_fidelity, second.at_highest_fidelity
    elif first.promotion is not None or second.promotion is not None:
        after = " after the short training"
    if TrialState.PRUNED in (first.state, second.state):
        return f"{cost}; a pruned training does not show which one is more accurate."
    difference, noise = first.accuracy - second.accuracy, first.accuracy_noise
    direction = "higher" if difference >= 0 else "lower"
    text = f"{cost}, and its accuracy is {abs(difference):.3f} {direction}{after}"
    if noise is None:
        return f"{text}."
    # The difference of two evaluations has sqrt(2) times the noise of one.
    inside = abs(difference) < Z_95 * math.sqrt(2) * noise
    return f"{text}, {'not significant' if inside else 'significant'} given the noise."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _pair(snapshot: Snapshot, fields: Fields) -> tuple[TrialRecord, TrialRecord] | None:
    first, other = chosen(snapshot, fields), View.parse(fields).other
    if first is None:
        return None
    others = [r for r in snapshot.records if r.trial == other]
    for family in reversed(COMPETITORS):
        reference = nearest(snapshot.records, family, first.cost)
        others += [] if reference is None else [reference]
    second = next((r for r in others if r.trial != first.trial), None)
    return None if second is None else (first, second)


def _table(first: TrialRecord, second: TrialRecord) -> Any:
    """Return a table of facts on both networks, with differences first and marked."""
    left, right = _facts(first), _facts(second)
    rows = []
    for name in {**left, **right}:
        values = [shown(side.get(name, "")) for side in (left, right)]
        differs = values[0] != values[1]
        mark = html.Span("differs", className="differs") if differs else ""
        rows.append((not differs, [name, mark, *values]))
    rows.sort(key=lambda row: row[0])
    head = ("", "", first.label, second.label)
    return html.Div(parts.table(head, [row for _, row in rows], 4), id="differences")


def _facts(record: TrialRecord) -> dict[str, Any]:
    trained = training(record)
    return {
        **_accuracies(record),
        **{find_metric(m).title: quantity(m, value) for m, value in record.costs.items()},
        **dict(_leaves(record.architecture.to_dict())),
        **{key: trained[key] for key in ("seconds", "seed", "image side") if key in trained},
    }


def _accuracies(record: TrialRecord) -> dict[str, str]:
    """Return the accuracies after screening, and after promotion if there is one."""
    short = replace(record, promotion=None)
    found = {"accuracy, short training": parts.accuracy(short)}
    if record.state is TrialState.PRUNED:
        found["accuracy, short training"] += " (pruned)"
    if record.promotion is not None:
        found["accuracy, longer training"] = parts.accuracy(record)
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of an architecture with its path, except for the name."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if path or key != "name":
                yield from _leaves(each, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, value
