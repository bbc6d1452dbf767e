"""The page that holds two networks against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis import tables as results
from mbsearch.analysis.pareto import Z_95
from mbsearch.cost.units import NOUNS, quantity
from mbsearch.dashboard import parts
from mbsearch.dashboard.pages.network import chosen, shown, training
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.network import curve_figure, drawing, nearest
from mbsearch.figures.style import metric_title
from mbsearch.study.records import BASELINE_FAMILIES, TrialRecord, complete
from mbsearch.study.records import State as TrialState

TITLE, ADDRESS, ORDER = "Compare", "compare", 3


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """The whole page; without a second network, against the nearest MobileNet V2 (or V1)."""
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
    """What makes the page be drawn anew: other facts of the networks, and others to choose from."""
    pair = _pair(snapshot, fields)
    if pair is None:
        return None
    choice = [r.trial for r in results.front(snapshot.records)]
    return [choice, *([r.trial, str(r.state), *_accuracies(r).values()] for r in pair)]


def register(app: Dash, library: Library) -> None:
    """Other networks may be chosen here too, where there is no shift key."""

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
    """Choose among the front and the baselines; nothing chosen means what is shown by itself."""
    done = complete(list(snapshot.records))
    choice = [*results.front(snapshot.findings.within), *(r for r in done if r.is_baseline), shown]
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
            dmc.Text(_capital(verdict(first, second)), size="lg", mb="md", id="verdict"),
            *(
                parts.panel(
                    record.label,
                    dmc.Text("On a scale of its own.", size="sm", c="dimmed"),
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


def verdict(first: TrialRecord, second: TrialRecord) -> str:
    """Which of two networks is ahead, and whether the noise explains it."""
    ratio = first.cost / second.cost
    cost = f"{first.label} needs {ratio:.2f} times the {NOUNS[first.metric]} of {second.label}"
    if first.evaluation is None or second.evaluation is None:
        return f"{cost}."
    after = ""
    if first.promotion is not None and second.promotion is not None:
        first, second = first.highest, second.highest
    elif first.promotion is not None or second.promotion is not None:
        after = " after the short training"
    if TrialState.PRUNED in (first.state, second.state):
        return f"{cost}; a training that was stopped early says nothing of which is better."
    lead, noise = first.accuracy - second.accuracy, first.accuracy_noise
    text = (
        f"{cost}, and its accuracy is {abs(lead):.3f} {'higher' if lead >= 0 else 'lower'}{after}"
    )
    if noise is None:
        return f"{text}."
    # The difference of two evaluations has sqrt(2) times the noise of one.
    inside = abs(lead) < Z_95 * math.sqrt(2) * noise
    return f"{text}, {'within' if inside else 'more than'} what the noise explains."


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _pair(snapshot: Snapshot, fields: Fields) -> tuple[TrialRecord, TrialRecord] | None:
    first, other = chosen(snapshot, fields), View.parse(fields).other
    if first is None:
        return None
    rivals = [r for r in snapshot.records if r.trial == other]
    for family in reversed(BASELINE_FAMILIES):
        rival = nearest(snapshot.records, family, first.cost)
        rivals += [] if rival is None else [rival]
    second = next((r for r in rivals if r.trial != first.trial), None)
    return None if second is None else (first, second)


def _table(first: TrialRecord, second: TrialRecord) -> Any:
    """Facts side by side; those that differ come first and bear a mark."""
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
        **{metric_title(m): quantity(m, value) for m, value in record.costs.items()},
        **dict(_leaves(record.architecture.to_dict())),
        **{key: trained[key] for key in ("seconds", "seed", "image side") if key in trained},
    }


def _accuracies(record: TrialRecord) -> dict[str, str]:
    """Of the short training, and of the longer one where there was one."""
    short = replace(record, promotion=None)
    found = {"accuracy, short training": parts.accuracy(short)}
    if record.state is TrialState.PRUNED:
        found["accuracy, short training"] += " (stopped early)"
    if record.promotion is not None:
        found["accuracy, longer training"] = parts.accuracy(record)
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of an architecture that is set, by its path; what it is called is no part."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if path or key != "name":
                yield from _leaves(each, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, value
