"""Page of the Pareto front and the answers for budgets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, Patch, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_card import AnswerCard, answer_card
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.fidelity_levels import finals_accuracies
from mbsearch.analysis.findings import natural_budgets
from mbsearch.analysis.front import front_of
from mbsearch.analysis.int8_loss import int8_text, with_int8_accuracy
from mbsearch.analysis.step_accuracies import accuracy_columns, step_accuracies
from mbsearch.config.budgets import Budget
from mbsearch.cost.metrics import LATENCY, METRICS, find_metric, quantity, table_costs
from mbsearch.dashboard import parts
from mbsearch.dashboard.answer_panel import beside_sentence, sentence_parts
from mbsearch.dashboard.filter_chips import filter_chips, is_filtered
from mbsearch.dashboard.hover_card import hover_card
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import BUDGETS, View, query
from mbsearch.figures.front import (
    budget_shapes,
    front_figure,
    selection_annotations,
)
from mbsearch.figures.style import INT8_TITLE
from mbsearch.study.records import TrialRecord, complete, metric_of, score_of_study

TITLE, ADDRESS, ORDER = "Front", "front", 1
NEEDS = "results"

_REDRAW = {"study", "metric", "accuracy", "colour", "blocks", "alphas", "resolutions", "states"}
_LISTED = 50  # networks of a lasso


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the components of the page."""
    view = _view(fields, snapshot)
    asked = on_axis(snapshot, view)
    shown = card(asked, view)
    return html.Div(
        [
            parts.page_title(f"{score_of_study(snapshot.records).heading} against cost"),
            dcc.Store(id="front-drawn", data=_drawn(fields, snapshot)),
            dcc.Store(id="front-settled"),
            dcc.Store(id="front-controls", data=_controls(asked, fields)),
            dcc.Store(id="front-fresh"),
            html.Section(
                [
                    html.Div(
                        sentence_parts(shown.found),
                        id="sentence",
                        className="sentence",
                        **parts.aria(live="polite"),
                    ),
                    html.Div(beside_sentence(shown, fields), id="others", className="others"),
                ],
                className="answer",
                **parts.aria(label="Answer"),
            ),
            dmc.Grid(
                [
                    dmc.GridCol(
                        [
                            html.Div(filter_chips(asked, view), id="chips"),
                            parts.graph(
                                "front",
                                _figure(asked, view, shown.found),
                                _description(snapshot),
                                lasso=True,
                            ),
                            dcc.Tooltip(
                                id="front-card",
                                background_color="var(--mantine-color-body)",
                                border_color="var(--mantine-color-default-border)",
                            ),
                            html.Div(id="lasso", **parts.aria(live="polite")),
                            dmc.Text(
                                caption(snapshot, view),
                                id="caption",
                                size="sm",
                                c="dimmed",
                                mb="md",
                            ),
                            html.Div(_budgets(asked, view), id="budgets"),
                            html.Div(
                                _front_table(asked, view, shown.found, fields), id="front-table"
                            ),
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
    """Return the names of the measured latencies, which can be the plot's axis."""
    return sorted(snapshot.measured.latencies)


def register(app: Dash, library: Library) -> None:
    """Register callbacks that update the page when its URL or the study changes."""

    @app.callback(
        Output("front-fresh", "data"),
        Output("front", "figure"),
        Output("sentence", "children"),
        Output("front-drawn", "data"),
        Input("view", "data"),
        Input("version", "data"),
        State("front-drawn", "data"),
        prevent_initial_call=True,
    )
    def draw(fields: Fields, _version: Any, drawn: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        if not complete(list(snapshot.records)):
            return (no_update,) * 4
        view = _view(fields, snapshot)
        asked = on_axis(snapshot, view)
        now = _drawn(fields, snapshot)
        changed = {key for key in {**now, **drawn} if now.get(key) != drawn.get(key)}
        if not changed:
            return (no_update,) * 4
        found = _answer(asked, view)
        sentence = sentence_parts(found)
        if changed.isdisjoint(_REDRAW | {"version"} | _other_budgets(asked)):
            return no_update, _decorated(asked, view, found), sentence, now
        return _figure(asked, view, found), no_update, sentence, now

    # Plot and sentence do not wait for the other texts, which take longer.
    @app.callback(
        Output("others", "children"),
        Output("caption", "children"),
        Output("cards", "children"),
        Output("front-table", "children"),
        Output("budgets", "children"),
        Output("filters", "children"),
        Output("chips", "children"),
        Output("front-controls", "data"),
        Input("front-settled", "data"),
        State("view", "data"),
        State("front-controls", "data"),
        prevent_initial_call=True,
    )
    def write(_settled: Any, fields: Fields, controls: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        view = _view(fields, snapshot)
        asked = on_axis(snapshot, view)
        shown = card(asked, view)
        now = controls
        if controls["of"] != _controlled(asked, fields):
            now = _controls(asked, fields)
        return (
            beside_sentence(shown, fields),
            caption(snapshot, view),
            _cards(snapshot, view, fields),
            _front_table(asked, view, shown.found, fields),  # its links have the view in them
            _budgets(asked, view) if now["range"] != controls["range"] else no_update,
            _filters(snapshot, view) if now["options"] != controls["options"] else no_update,
            filter_chips(asked, view),
            now,
        )

    @app.callback(
        Output("front-card", "show"),
        Output("front-card", "bbox"),
        Output("front-card", "children"),
        Input("front", "hoverData"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def hover(hovered: Fields | None, fields: Fields) -> Any:
        if not hovered or "customdata" not in hovered["points"][0]:
            return False, no_update, no_update
        snapshot = library.snapshot(fields.get("study"))
        view = _view(fields, snapshot)
        records = _shown(on_axis(snapshot, view).records, view)
        point = hovered["points"][0]
        found = [r for r in records if r.trial == point["customdata"][0]]
        finals = finals_accuracies(snapshot.findings)
        cards = [hover_card(r, records, finals.get(r.trial)) for r in found]
        return bool(found), point["bbox"], cards

    @app.callback(
        Output("lasso", "children"),
        Input("front", "selectedData"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def surround(chosen: Fields | None, fields: Fields) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        view = _view(fields, snapshot)
        asked = on_axis(snapshot, view)
        points = (chosen or {}).get("points", [])
        trials = {point["customdata"][0] for point in points if "customdata" in point}
        return surrounded(_shown(asked.records, view), trials, fields) if trials else None

    # Dash writes a zoom back into the figure, where plotly's uirevision does not keep it.
    app.clientside_callback(
        ClientsideFunction("mbsearch", "keep"),
        Output("front", "figure", allow_duplicate=True),
        Input("front-fresh", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("mbsearch", "settle"),
        Output("front-settled", "data"),
        Input("front-drawn", "data"),
        prevent_initial_call=True,
    )


def card(snapshot: Snapshot, view: View) -> AnswerCard:
    """Return the answers for the view's budget and the study's budgets, ignoring filters."""
    findings, shown = snapshot.findings, Budget.of(_bounds(snapshot, view))
    budgets = snapshot.asked or findings.default_budgets
    found = answer_card(
        findings, budgets, snapshot.measured, snapshot.location, shown, snapshot.answers
    )
    assert found is not None, "it has a budget"
    return found


def _answer(snapshot: Snapshot, view: View) -> Answer | str:
    """Return the answer for the view's budget, ignoring filters."""
    budget = Budget.of(_bounds(snapshot, view))
    return answers(snapshot.findings, [budget], snapshot.answers)[budget]


def on_axis(snapshot: Snapshot, view: View) -> Snapshot:
    """Return the study with the metric on the plot's axis as its cost.

    On an axis of measured latencies, these replace predicted ones, and only measured networks are
    left.
    """
    latencies = snapshot.measured.latencies.get(view.metric)
    if latencies is None:
        if view.metric == metric_of(snapshot.records) or view.metric not in BUDGETS:
            return snapshot
        records = [replace(r, metric=view.metric) for r in snapshot.records]
        return replace(snapshot, records=tuple(records))
    times = {fingerprint: round(found.median) for fingerprint, found in latencies.items()}
    records = [
        replace(r, metric=LATENCY, costs={**r.costs, LATENCY: times[r.fingerprint]})
        for r in snapshot.records
        if r.fingerprint in times
    ]
    retrained = [
        replace(each, costs={**each.costs, LATENCY: times[each.fingerprint]})
        for each in snapshot.measured.retrained
        if each.fingerprint in times
    ]
    measured = replace(snapshot.measured, retrained=tuple(retrained))
    return replace(snapshot, records=tuple(records), measured=measured)


def _drawn(fields: Fields, snapshot: Snapshot) -> dict[str, Any]:
    return {**fields, "version": snapshot.version}


def _controlled(snapshot: Snapshot, fields: Fields) -> list[Any]:
    """Return what the ranges of the sliders and the options of the filters depend on."""
    return [snapshot.name, snapshot.version, fields.get("metric")]


def _controls(snapshot: Snapshot, fields: Fields) -> dict[str, Any]:
    """Return the ranges of the sliders and the options of the filters."""
    records = snapshot.findings.within
    costs = [[r.costs[metric] for r in records] for metric in _bounded(snapshot)]
    bounds = [[min(each), max(each)] for each in costs if each]
    return {
        "of": _controlled(snapshot, fields),
        "range": [bounds, _bounds(snapshot, View())],
        "options": str(snapshot.filter_options),
    }


def _bounds(snapshot: Snapshot, view: View) -> dict[str, int]:
    """Return each cost's bound from the URL, or else from the first budget on the axis's cost.

    Without such a budget, the study's first is taken on its own axis (limits of flash and RAM, for
    example), else a round one in the middle.
    """
    metric, known = metric_of(snapshot.records), _bounded(snapshot)
    asked = [each.bounds() for each in snapshot.questions]
    first = next((bounds for bounds in asked if metric in bounds), {})
    if not first and asked and metric == snapshot.metric:
        first = asked[0]
    if not first:
        natural = natural_budgets(snapshot.findings.within) or [1]
        first = {metric: natural[len(natural) // 2]}
    bounds = {**first, **view.budgets}
    return {m: bound for m, bound in bounds.items() if m in known}


def _other_budgets(snapshot: Snapshot) -> set[str]:
    """Return the URL fields of budgets on costs that are not on the axis."""
    return {f"max_{metric}" for metric in BUDGETS if metric != metric_of(snapshot.records)}


def caption(snapshot: Snapshot, view: View) -> str:
    """Return a text on how to read the plot, and on networks without a measured latency."""
    text = (
        "Labels are alpha/resolution. Click a network to select it; Esc or a click beside the "
        "networks clears the selection."
    )
    noises = {f"{r.accuracy_noise:.3f}" for r in snapshot.records if r.accuracy_noise}
    if noises:
        noun = score_of_study(snapshot.records).noun
        errors = " to ".join(sorted({min(noises), max(noises)}))
        text += f" ± is the standard error of the {noun}, {errors}; rings mark "
        text += "networks that are not significantly worse than the front."
    if any(r.promotion is not None for r in snapshot.records):
        text += (
            " Faint points were not promoted to a longer training, and are lower for this reason."
        )
    within = snapshot.findings.within
    if view.accuracy == "int8":
        done, kept = len(complete(within)), len(_shown(within, view))
        text += f" Not validated as int8 and left out: {done - kept:,} of {done:,} networks."
    latencies = snapshot.measured.latencies.get(view.metric)
    if latencies is None:
        return text
    drawn = [r for r in within if r.evaluation is not None and view.passes(r)]
    missing = sum(r.fingerprint not in latencies for r in drawn)
    return (
        f"{text} Bars along the axis are the quartiles of its latency. Not measured and left out: "
        f"{missing:,} of {len(drawn):,} networks; {_measuring(snapshot)}."
    )


def _measuring(snapshot: Snapshot) -> str:
    return f"run mbsearch latency {snapshot.location} to time the front and the MobileNets"


def _view(fields: Fields, snapshot: Snapshot) -> View:
    """Return the view for a URL, with an unknown cost replaced by the study's."""
    view = View.parse(fields)
    if view.metric not in _metrics(snapshot):
        view = replace(view, metric=metric_of(snapshot.records))
    return view if _has_int8(snapshot) else replace(view, accuracy=View().accuracy)


def _has_int8(snapshot: Snapshot) -> bool:
    return any(r.int8_accuracy is not None for r in snapshot.findings.within)


def _shown(records: Sequence[TrialRecord], view: View) -> list[TrialRecord]:
    """Return the records with the accuracy on the axis; those without one are left out."""
    return with_int8_accuracy(records) if view.accuracy == "int8" else list(records)


def _metrics(snapshot: Snapshot) -> list[str]:
    """Return the costs that can be an axis: exact costs and measured latencies."""
    exact = [m for m in METRICS if m in snapshot.findings.known_costs]
    latencies = snapshot.measured.latencies
    if not latencies:
        return exact
    done = {r.fingerprint for r in complete(list(snapshot.records))}
    return exact + [metric for metric, found in latencies.items() if done & found.keys()]


def _figure(snapshot: Snapshot, view: View, found: Answer | str) -> Any:
    cost = metric_of(snapshot.records)
    within = _shown(snapshot.findings.within, view)
    passing = [r for r in within if view.passes(r, ignoring=cost)]
    figure = front_figure(
        passing,
        metric=view.metric,
        colour=view.colour,
        latencies=snapshot.measured.latencies.get(view.metric),
        hover=False,  # the card replaces it
    )
    shapes, annotations = _decoration(snapshot, view, found)
    if view.accuracy == "int8":
        figure.update_yaxes(title_text=INT8_TITLE)
    return figure.update_layout(
        shapes=shapes,
        annotations=annotations,
        # Zoom and hidden traces survive a redraw that keeps this.
        uirevision=f"{view.study}/{view.metric}/{view.accuracy}",
    )


def _decorated(snapshot: Snapshot, view: View, found: Answer | str) -> Patch:
    patch = Patch()
    patch["layout"]["shapes"], patch["layout"]["annotations"] = _decoration(snapshot, view, found)
    return patch


def _decoration(snapshot: Snapshot, view: View, found: Answer | str) -> tuple[list[Any], list[Any]]:
    metric, costs = metric_of(snapshot.records), [r.cost for r in snapshot.findings.within]
    latencies = snapshot.measured.latencies.get(view.metric)
    bound = _bounds(snapshot, view).get(metric)
    shapes = [] if bound is None else budget_shapes(bound)
    notes = selection_annotations(
        _shown(_selected(snapshot.records, view), view),
        _answer_shown(snapshot, view, found),
        metric=view.metric,
        latencies=latencies,
        beyond=math.sqrt(min(costs, default=1) * max(costs, default=1)),
    )
    return shapes, notes


def _answer_shown(snapshot: Snapshot, view: View, found: Answer | str) -> TrialRecord | None:
    """Return the network of the answer; None without one, or if a filter hides it."""
    if not isinstance(found, Answer):
        return None
    passing = view.passes(found.record, ignoring=metric_of(snapshot.records))
    return next(iter(_shown([found.record] * passing, view)), None)


def _selected(records: Sequence[TrialRecord], view: View) -> list[TrialRecord]:
    by_number = {r.trial: r for r in records}
    return [by_number[t] for t in (view.trial, view.other) if t in by_number]


def _description(snapshot: Snapshot) -> str:
    score = score_of_study(snapshot.records)
    trials = f"{len(snapshot.records)} trials; the table below has the front"
    return f"{score.heading} against cost of {trials}"


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
            *(
                dmc.Text(f"{record.score.heading} {each}", size="sm")
                for each in step_accuracies(snapshot.findings, record)
            ),
            dmc.Text(parts.costs(record), size="sm"),
            dmc.Text(parts.latencies(record, snapshot.measured), size="sm"),
            dmc.Text(
                f"Alpha {record.architecture.alpha:g}, {record.architecture.resolution} px",
                size="sm",
            ),
            dcc.Link(
                "Open this network", href=f"network{query({**fields, 'trial': record.trial})}"
            ),
            mb="sm",
        )
        for record in selected
    ]
    if len(selected) == 2:
        cards.append(dcc.Link("Compare the two", href=f"compare{query(fields)}"))
    return cards


def _budgets(snapshot: Snapshot, view: View) -> Any:
    """Return a slider with a logarithmic scale for each cost."""
    values, first = _bounds(snapshot, view), _bounds(snapshot, View())
    within, axis = snapshot.findings.within, metric_of(snapshot.records)
    return dmc.SimpleGrid(
        [
            _slider(within, metric, values.get(metric), always=metric in first)
            for metric in sorted(_bounded(snapshot), key=lambda each: each != axis)
        ],
        cols={"base": 1, "sm": 3},
        spacing="xl",
        mb="lg",
    )


def _bounded(snapshot: Snapshot) -> list[str]:
    """Return the costs that have a slider."""
    return [metric for metric in BUDGETS if metric in snapshot.findings.known_costs]


def _slider(
    records: Sequence[TrialRecord], metric: str, value: float | None, *, always: bool
) -> Any:
    found = [r.costs[metric] for r in records] or [1]
    unit = find_metric(metric).unit.slider_label
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
                label={"function": unit},
                labelAlwaysOn=False,
                marks=[
                    {"value": low, "label": quantity(metric, min(ends))},
                    {"value": high, "label": quantity(metric, max(ends))},
                ],
                thumbLabel=f"{name}, at most",
                mb="lg",
                mx=36,
            ),
        ],
        **{"data-unit": unit, **({"data-axis": f"max_{metric}"} if live else {})},
    )


def _filters(snapshot: Snapshot, view: View) -> Any:
    options = snapshot.filter_options
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
                    description=None
                    if snapshot.measured.latencies
                    else f"To use a measured latency, {_measuring(snapshot)}.",
                ),
                dmc.Select(
                    id={"control": "accuracy"},
                    label="Accuracy axis",
                    value=view.accuracy,
                    data=[
                        {"value": "float32", "label": "Of the search"},
                        {"value": "int8", "label": "As int8", "disabled": not _has_int8(snapshot)},
                    ],
                    allowDeselect=False,
                ),
                dmc.Select(
                    id={"control": "colour"},
                    label="Colour by",
                    value=view.colour,
                    data=options.traits,
                    clearable=True,
                    searchable=True,
                    placeholder="nothing",
                ),
                _multiple("blocks", "With block", view.blocks, options.blocks),
                _multiple("alphas", "Alpha", view.alphas, options.alphas),
                _multiple("resolutions", "Resolution", view.resolutions, options.resolutions),
                _multiple("states", "State", view.states, options.states),
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
    """Return a filter's value as text with all digits, so that it equals a network's value."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _front_table(snapshot: Snapshot, view: View, found: Answer | str, fields: Fields) -> Any:
    records = snapshot.findings.within
    metric = metric_of(records)
    costs = table_costs(metric, snapshot.findings.known_costs)
    known = {r.trial: r for r in records}  # whose accuracy is that of the search
    passing = [r for r in _shown(records, view) if view.passes(r, ignoring=metric)]
    answer = _answer_shown(snapshot, view, found)
    listed = {r.trial for r in (*front_of(passing), *filter(None, [answer]))}
    shown = sorted((known[trial] for trial in listed & known.keys()), key=lambda r: r.cost)
    accuracy_head, accuracies = accuracy_columns(snapshot.findings, shown)
    int8 = ["As int8"] if any(map(int8_text, shown)) else []
    rows = [
        [
            _marked(r, view, fields, is_answer=answer is not None and r.trial == answer.trial),
            *cells,
            *(int8_text(r) for _ in int8),
            *(quantity(cost, r.costs[cost]) for cost in costs),
            f"{r.architecture.alpha:g}",
            f"{r.architecture.resolution} px",
        ]
        for r, cells in zip(shown, accuracies, strict=True)
    ]
    head = (
        "Network",
        *accuracy_head,
        *int8,
        *(find_metric(cost).column for cost in costs),
        "Alpha",
        "Resolution",
    )
    title = "The front of the networks shown" if is_filtered(view) else "The front"
    if answer is not None:
        title += " and the answer"
    return parts.panel(f"{title}, by cost", parts.table(head, rows))


def _marked(record: TrialRecord, view: View, fields: Fields, is_answer: bool) -> Component:
    """Return the link of a network, marked if the network is the answer or selected."""
    chosen = record.trial in (view.trial, view.other)
    marks = [" the answer"] * is_answer + [" selected"] * chosen
    link = parts.network_link(record, fields)
    return html.Span([link, *marks], className="selected" if chosen else "") if marks else link


def surrounded(records: Sequence[TrialRecord], trials: set[int], fields: Fields) -> Component:
    """Return a list of the networks inside the lasso, the most accurate first."""
    inside = [r for r in records if r.trial in trials and r.evaluation is not None]
    inside.sort(key=lambda r: -r.at_highest_fidelity.accuracy)
    cost = metric_of(records)
    rows = [
        [parts.network_link(r, fields), parts.accuracy_and_step(r), quantity(cost, r.costs[cost])]
        for r in inside[:_LISTED]
    ]
    title = f"{len(inside):,} networks inside the lasso"
    if len(inside) > _LISTED:
        title += f", the {_LISTED} most accurate"
    head = ("Network", score_of_study(records).heading, find_metric(cost).column)
    return parts.panel(title, parts.table(head, rows), mb="md")
