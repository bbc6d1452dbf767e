"""Page of the Pareto front and the answers for budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, Patch, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.answer import answer_text
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.front import front_of
from mbsearch.config.budgets import Budget
from mbsearch.cost.metrics import METRICS, columns, find_metric, quantity
from mbsearch.dashboard import parts
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import BUDGETS, View, query
from mbsearch.figures.front import budget_shapes, front_figure, selection_annotations, traits
from mbsearch.space.blocks import BLOCKS
from mbsearch.study.records import State as TrialState
from mbsearch.study.records import TrialRecord, complete, metric_of

TITLE, ADDRESS, ORDER = "Front", "front", 1

_REDRAW = {"study", "metric", "colour", "blocks", "alphas", "resolutions", "states"}
_CONTROLS = ("range", "options")


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the components of the page."""
    view = _view(fields, snapshot)
    return html.Div(
        [
            dcc.Store(id="front-drawn", data={**_drawn(fields, snapshot), **_controls(snapshot)}),
            dcc.Store(id="front-fresh"),
            dmc.Text(
                sentence(snapshot, view),
                id="sentence",
                size="lg",
                fw=600,
                **parts.aria(live="polite"),
            ),
            html.Div(others(snapshot, view), id="others", className="others"),
            dmc.Grid(
                [
                    dmc.GridCol(
                        [
                            parts.graph("front", _figure(snapshot, view), _description(snapshot)),
                            dmc.Text(
                                caption(snapshot, view),
                                id="caption",
                                size="sm",
                                c="dimmed",
                                mb="md",
                            ),
                            html.Div(_budgets(snapshot, view), id="budgets"),
                            html.Div(_front_table(snapshot, view, fields), id="front-table"),
                        ],
                        span={"base": 12, "md": 9},
                    ),
                    dmc.GridCol(
                        dmc.Stack(
                            [
                                html.Div(_cards(snapshot, view, fields), id="cards"),
                                html.Div(_filters(snapshot, view), id="filters"),
                            ]
                        ),
                        span={"base": 12, "md": 3},
                    ),
                ],
                gutter="lg",
                overflow="hidden",
            ),
        ]
    )


def redraw_key(snapshot: Snapshot, _fields: Fields) -> Any:
    """Return the latencies that can be an axis."""
    return sorted(snapshot.measured.latencies)


def register(app: Dash, library: Library) -> None:
    """Register callbacks that update the page when its URL or the study changes."""

    @app.callback(
        Output("front-fresh", "data"),
        Output("front", "figure"),
        Output("sentence", "children"),
        Output("others", "children"),
        Output("caption", "children"),
        Output("cards", "children"),
        Output("front-table", "children"),
        Output("budgets", "children"),
        Output("filters", "children"),
        Output("front-drawn", "data"),
        Input("view", "data"),
        Input("version", "data"),
        State("front-drawn", "data"),
        prevent_initial_call=True,
    )
    def redraw(fields: Fields, _version: Any, drawn: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        view, records = _view(fields, snapshot), snapshot.records
        if not complete(list(records)):
            return (no_update,) * 10
        here = (fields.get("study"), snapshot.version) == (drawn.get("study"), drawn["version"])
        controls = {key: drawn[key] for key in _CONTROLS} if here else _controls(snapshot)
        now = {**_drawn(fields, snapshot), **controls}
        changed = {key for key in {**now, **drawn} if now.get(key) != drawn.get(key)}
        if not changed:
            return (no_update,) * 10
        in_place = changed.isdisjoint(_REDRAW | {"version"} | _other_budgets(view))
        return (
            no_update if in_place else _figure(snapshot, view),
            _decorated(snapshot, view) if in_place else no_update,
            sentence(snapshot, view),
            others(snapshot, view),
            caption(snapshot, view),
            _cards(snapshot, view, fields),
            _front_table(snapshot, view, fields),  # its links have the view in them
            _budgets(snapshot, view) if "range" in changed else no_update,
            _filters(snapshot, view) if "options" in changed else no_update,
            now,
        )

    # Dash writes a zoom back into the figure, where plotly's uirevision does not keep it.
    app.clientside_callback(
        ClientsideFunction("mbsearch", "keep"),
        Output("front", "figure", allow_duplicate=True),
        Input("front-fresh", "data"),
        prevent_initial_call=True,
    )


def sentence(snapshot: Snapshot, view: View) -> str:
    """Return the answer for the view's budget, among networks that pass its filters."""
    findings = snapshot.findings
    unbounded = replace(view, budgets={})
    passing = [r for r in findings.records if unbounded.passes(r)]
    budget = Budget.of(_bounds(snapshot, view))
    (found,) = answers(replace(findings, records=passing), [budget]).values()
    return f"{answer_text(found)}."


def others(snapshot: Snapshot, view: View) -> list[Component]:
    """Return the answers for the study's other budgets, one line each."""
    shown = _bounds(snapshot, view)
    budgets = [budget for budget in snapshot.questions if budget.bounds() != shown]
    found = answers(snapshot.findings, budgets).values()
    return [dmc.Text(f"{answer_text(each)}.", c="dimmed", size="sm") for each in found]


def _drawn(fields: Fields, snapshot: Snapshot) -> dict[str, Any]:
    return {**fields, "version": snapshot.version}


def _controls(snapshot: Snapshot) -> dict[str, Any]:
    """Return the ranges of the sliders and the options of the filters."""
    records = snapshot.findings.within
    costs = [[r.costs[metric] for r in records] for metric in _bounded(records)]
    bounds = [[min(each), max(each)] for each in costs if each]
    return {
        "range": [bounds, sorted(_bounds(snapshot, View()).items())],
        "options": [list(map(str, each)) for each in _options(snapshot.records)],
    }


def _bounds(snapshot: Snapshot, view: View) -> dict[str, int]:
    """Return the bounds to show: those in the URL, otherwise those of the study's first budget.

    The study's cost always has a bound.
    """
    metric, known = metric_of(snapshot.records), _bounded(snapshot.records)
    first = snapshot.questions[0].bounds() if snapshot.questions else {}
    top = max((r.costs[metric] for r in snapshot.findings.within), default=1)
    bounds = {metric: top, **first, **view.budgets}
    return {m: bound for m, bound in bounds.items() if m in known}


def _other_budgets(view: View) -> set[str]:
    """Return the URL fields of budgets on costs that are not on the axis."""
    return {f"max_{metric}" for metric in BUDGETS if metric != view.metric}


def caption(snapshot: Snapshot, view: View) -> str:
    """Return a text on how to read the plot, and on networks without a measured latency."""
    text = (
        "Labels are alpha/resolution, bars the noise of one evaluation. Rings mark networks within "
        "this noise of the front."
    )
    if any(r.promotion is not None for r in snapshot.records):
        text += (
            " Faint points were not promoted to a longer training, and are lower for this reason."
        )
    latencies = snapshot.measured.latencies.get(view.metric)
    if latencies is None:
        return text
    within = snapshot.findings.within
    drawn = [r for r in within if r.evaluation is not None and view.passes(r)]
    missing = sum(r.fingerprint not in latencies for r in drawn)
    return (
        f"{text} Bars along the axis are the quartiles of its latency. Not measured and left out: "
        f"{missing:,} of {len(drawn):,} networks; {_measuring(snapshot)}."
    )


def _measuring(snapshot: Snapshot) -> str:
    return f"`mbsearch latency {snapshot.location}` times the front and the MobileNets"


def _view(fields: Fields, snapshot: Snapshot) -> View:
    """Return the view for a URL, with an unknown cost replaced by the study's."""
    view = View.parse(fields)
    known = view.metric in _metrics(snapshot)
    return view if known else replace(view, metric=metric_of(snapshot.records))


def _metrics(snapshot: Snapshot) -> list[str]:
    """Return the costs that can be an axis: exact costs and measured latencies."""
    exact = [m for m in METRICS if all(m in r.costs for r in snapshot.records)]
    done = complete(list(snapshot.records))
    return exact + [
        metric
        for metric, found in snapshot.measured.latencies.items()
        if any(r.fingerprint in found for r in done)  # mostly the first, a baseline
    ]


def _figure(snapshot: Snapshot, view: View) -> Any:
    passing = [r for r in snapshot.findings.within if view.passes(r, ignoring=view.metric)]
    figure = front_figure(
        passing,
        metric=view.metric,
        colour=view.colour,
        latencies=snapshot.measured.latencies.get(view.metric),
    )
    shapes, annotations = _decoration(snapshot, view)
    return figure.update_layout(
        shapes=shapes,
        annotations=annotations,
        # Zoom and hidden traces survive a redraw that keeps this.
        uirevision=f"{view.study}/{view.metric}",
    )


def _decorated(snapshot: Snapshot, view: View) -> Patch:
    patch = Patch()
    patch["layout"]["shapes"], patch["layout"]["annotations"] = _decoration(snapshot, view)
    return patch


def _decoration(snapshot: Snapshot, view: View) -> tuple[list[Any], list[Any]]:
    records, latencies = snapshot.records, snapshot.measured.latencies.get(view.metric)
    budget = _bounds(snapshot, view).get(view.metric)
    shapes = budget_shapes(budget) if budget else []
    return shapes, selection_annotations(_selected(records, view), view.metric, latencies)


def _selected(records: Sequence[TrialRecord], view: View) -> list[TrialRecord]:
    by_number = {r.trial: r for r in records}
    return [by_number[t] for t in (view.trial, view.other) if t in by_number]


def _description(snapshot: Snapshot) -> str:
    return f"Accuracy against cost of {len(snapshot.records)} trials; the table below has the front"


def _cards(snapshot: Snapshot, view: View, fields: Fields) -> list[Any]:
    """Return a card for each selected network, or a hint how to select one."""
    selected = _selected(snapshot.records, view)
    if not selected:
        hint = (
            "Click a network to select it. To compare it, shift-click another, or choose one on "
            "the page Compare."
        )
        return [dmc.Text(hint, size="sm", c="dimmed", className="hint")]
    cards: list[Any] = [
        parts.panel(
            record.label,
            dmc.Text(f"Accuracy {parts.accuracy(record)}", size="sm"),
            dmc.Text(parts.costs(record), size="sm"),
            dmc.Text(parts.latencies(record, snapshot.measured), size="sm"),
            dmc.Text(
                f"Alpha {record.architecture.alpha:g}, {record.architecture.resolution} px",
                size="sm",
            ),
            dcc.Link(
                "Open this network", href=f"/network{query({**fields, 'trial': record.trial})}"
            ),
            mb="sm",
        )
        for record in selected
    ]
    if len(selected) == 2:
        cards.append(dcc.Link("Compare the two", href=f"/compare{query(fields)}"))
    return cards


def _budgets(snapshot: Snapshot, view: View) -> Any:
    """Return a slider with a logarithmic scale for each cost."""
    values, first = _bounds(snapshot, view), _bounds(snapshot, View())
    within = snapshot.findings.within
    return dmc.SimpleGrid(
        [
            _slider(within, metric, values.get(metric), always=metric in first)
            for metric in _bounded(within)
        ],
        cols={"base": 1, "sm": 3},
        spacing="xl",
        mb="lg",
    )


def _bounded(records: Sequence[TrialRecord]) -> list[str]:
    """Return the costs that have a slider."""
    return [metric for metric in BUDGETS if all(metric in r.costs for r in records)]


def _slider(
    records: Sequence[TrialRecord], metric: str, value: float | None, *, always: bool
) -> Any:
    found = [r.costs[metric] for r in records] or [1]
    ends = found if value is None else [*found, value]
    low, high = math.log10(min(ends)), math.log10(max(ends)) + 0.01
    name = find_metric(metric).short_title
    # A slider at its maximum means no bound, except for the costs of the first budget.
    # The slider of the study's cost updates the sentence while dragged; others redraw on release.
    live = metric == metric_of(records)
    start = high if value is None else math.log10(value)
    return dmc.Box(
        [
            dmc.Text(f"{name}, at most", size="sm", fw=500, ml=36, className="line"),
            dmc.Slider(
                id={
                    "control": f"max_{metric}",
                    "log": True,
                    "top": math.ceil(high) + 1 if always else high,
                    "start": start,
                },
                min=low,
                max=high,
                step=0.01,
                value=start,
                updatemode="drag" if live else "mouseup",
                label={"function": find_metric(metric).unit.slider_label},
                labelAlwaysOn=False,
                marks=[
                    {"value": low, "label": quantity(metric, min(ends))},
                    {"value": high, "label": quantity(metric, max(ends))},
                ],
                thumbLabel=f"{name}, at most",
                mb="lg",
                mx=36,
            ),
        ]
    )


def _options(records: Sequence[TrialRecord]) -> list[list[Any]]:
    """Return the values for each filter: traits, blocks, alphas, resolutions and states."""
    searched = [r for r in records if not r.is_baseline]
    blocks = {stage.block for r in searched for stage in r.architecture.stages}
    return [
        list(dict.fromkeys(trait for r in searched for trait in traits(r))),
        [block for block in BLOCKS if block in blocks],
        sorted({r.architecture.alpha for r in searched}),
        sorted({r.architecture.resolution for r in searched}),
        sorted(map(str, TrialState)),
    ]


def _filters(snapshot: Snapshot, view: View) -> Any:
    colours, blocks, alphas, resolutions, states = _options(snapshot.records)
    return parts.panel(
        "View",
        dmc.Stack(
            [
                dmc.Select(
                    id={"control": "metric"},
                    label="Cost axis",
                    value=view.metric,
                    data=[{"value": m, "label": find_metric(m).title} for m in _metrics(snapshot)],
                    allowDeselect=False,
                    description=None if snapshot.measured.latencies else f"{_measuring(snapshot)}.",
                ),
                dmc.Select(
                    id={"control": "colour"},
                    label="Colour by",
                    value=view.colour,
                    data=colours,
                    clearable=True,
                    searchable=True,
                    placeholder="nothing",
                ),
                _multiple("blocks", "With block", view.blocks, blocks),
                _multiple("alphas", "Alpha", view.alphas, alphas),
                _multiple("resolutions", "Resolution", view.resolutions, resolutions),
                _multiple("states", "State", view.states, states),
            ],
            gap="xs",
        ),
    )


def _multiple(field: str, name: str, chosen: Sequence[Any], options: Sequence[Any]) -> Any:
    return dmc.MultiSelect(
        id={"control": field},
        label=name,
        value=[_exact(value) for value in chosen],
        data=[_exact(value) for value in options],
        clearable=True,
        placeholder="" if chosen else "any",
    )


def _exact(value: Any) -> str:
    """Return a value as text with all digits, so that it matches the network's."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _front_table(snapshot: Snapshot, view: View, fields: Fields) -> Any:
    records = snapshot.findings.within
    metric = metric_of(records)
    costs = columns(metric, "mult_adds", "params", "peak_activation_bytes")
    rows = [
        [
            parts.network_link(r, fields),
            parts.accuracy(r),
            *(quantity(cost, r.costs[cost]) for cost in costs),
            f"{r.architecture.alpha:g}",
            f"{r.architecture.resolution} px",
        ]
        for r in front_of([r for r in records if view.passes(r, ignoring=metric)])
    ]
    head = (
        "Network",
        "Accuracy",
        *(find_metric(cost).column for cost in costs),
        "Alpha",
        "Resolution",
    )
    return parts.panel("The front, by cost", parts.table(head, rows))
