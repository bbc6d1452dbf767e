"""Page of the search: progress, hypervolume over time, and a table of all trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.fidelity_levels import finals_accuracies
from mbsearch.analysis.front import front_of
from mbsearch.analysis.racing_savings import savings
from mbsearch.analysis.tables import to_frame
from mbsearch.dashboard import parts
from mbsearch.dashboard.glossary import help_mark
from mbsearch.dashboard.live_run import live_panel
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View, query
from mbsearch.figures.search import hypervolume_figure
from mbsearch.study.progress_file import RunProgress
from mbsearch.study.records import State as TrialState
from mbsearch.study.records import TrialRecord, score_of_study

TITLE, ADDRESS, ORDER = "Search", "search", 4
NEEDS = "study"

_SHOWN_MESSAGES = 20
# The table uses the colours of the page.
_THEME = (
    "themeQuartz.withParams({backgroundColor: 'var(--mantine-color-body)', "
    "foregroundColor: 'var(--mantine-color-text)', "
    "borderColor: 'var(--mantine-color-default-border)', "
    "headerBackgroundColor: 'var(--mantine-color-default-hover)', "
    "rowHoverColor: 'var(--mantine-color-default-hover)', "
    "selectedRowBackgroundColor: 'var(--mantine-primary-color-light)', "
    "menuBackgroundColor: 'var(--mantine-color-body)', "
    "inputBackgroundColor: 'var(--mantine-color-body)', fontFamily: 'inherit', "
    "browserColorScheme: 'inherit', cellHorizontalPadding: 12})"
)
_WHOLE, _TENTHS, _FINE = (
    {
        "type": "rightAligned",
        "valueFormatter": {
            "function": f"params.value == null ? '' : d3.format('{spec}')(params.value)"
        },
    }
    for spec in (",", ".1f", ".4f")
)
_COLUMNS: list[dict[str, Any]] = [
    {"field": "trial", "pinned": "left", "maxWidth": 85, "minWidth": 85},
    {"field": "network", "minWidth": 195},
    {"field": "state", "minWidth": 100},
    {"field": "accuracy", "headerName": "Accuracy, screening", "minWidth": 130, **_FINE},
    {"field": "promotion", "headerName": "Accuracy, promotion", "minWidth": 130, **_FINE},
    {"field": "finals", "headerName": "Accuracy, finals", "minWidth": 130, **_FINE},
    {"field": "predicted", **_FINE},
    {"field": "int8", "headerName": "As int8", **_FINE},
    {"field": "on_front", "headerName": "On front", "minWidth": 105},
    {"field": "mult_adds", "headerName": "Mult-Adds", "minWidth": 130, **_WHOLE},
    {"field": "params", **_WHOLE},
    {"field": "memory", "headerName": "Memory, bytes", "minWidth": 155, **_WHOLE},
    {"field": "flash", "headerName": "Flash, bytes", "minWidth": 140, **_WHOLE},
    {"field": "ram", "headerName": "RAM, bytes", "minWidth": 135, **_WHOLE},
    {"field": "alpha", "minWidth": 90, "type": "rightAligned"},
    {"field": "resolution", "headerName": "Pixels", "minWidth": 95, "type": "rightAligned"},
    {"field": "seconds", **_TENTHS},
    {"field": "message", "minWidth": 300},
]


def _columns(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the columns of the grid, with the study's score for accuracy."""
    headings = {"accuracy": {"headerName": score_of_study(snapshot.records).heading}}
    hidden = _hidden(snapshot.records)
    return [
        {**each, "hide": each["field"] in hidden, **headings.get(each["field"], {})}
        for each in _COLUMNS
    ]


_STATES = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.PRUNED, TrialState.FAILED)


def layout(snapshot: Snapshot, fields: Fields, library: Library) -> Component:
    """Return the components of the page."""
    view, records = View.parse(fields), snapshot.records
    others = [name for name in library.names() if name != snapshot.name]
    return html.Div(
        [
            parts.page_title("Course of the search"),
            dcc.Store(id="search-drawn", data=_drawn(fields, snapshot, library)),
            dcc.Store(id="live-drawn", data=_live_key(snapshot)),
            html.Div(live_panel(snapshot), id="live"),
            html.Div(_status(snapshot), id="status"),
            parts.panel(
                "Hypervolume",
                dmc.Group(
                    [
                        dmc.SegmentedControl(
                            id={"control": "against"},
                            value=view.against,
                            data=[
                                {"value": "trials", "label": "Over trials"},
                                {"value": "time", "label": "Over time"},
                            ],
                            **parts.aria(label="Horizontal axis"),
                        ),
                        dmc.Select(
                            id={"control": "beside"},
                            value=view.beside,
                            data=others,
                            clearable=True,
                            placeholder="another study",
                            disabled=not others,
                            **parts.aria(label="Compare with another study"),
                        ),
                        help_mark("hypervolume"),
                    ]
                ),
                dmc.Text(
                    "Area under the front: larger is better. Compare with a study of the same "
                    "space, for example one with --sampler random.",
                    size="sm",
                    c="dimmed",
                    mt="xs",
                ),
                parts.graph(
                    "hypervolume",
                    _figure(snapshot, view, library),
                    "Hypervolume over the search",
                    "380px",
                ),
                mb="md",
            ),
            html.Div(_messages(records), id="messages"),
            parts.panel(
                "Every trial",
                dmc.Group(
                    [
                        dmc.Button("Download CSV", id="take-csv", size="xs", variant="default"),
                        html.Span(_open_link(fields), id="open-trial"),
                        dmc.Group(["predicted", help_mark("predicted")], gap=4),
                        dmc.Group(["pruned", help_mark("pruned")], gap=4),
                    ],
                    mb="xs",
                ),
                _grid(snapshot),
                dcc.Download(id="csv"),
            ),
        ]
    )


def redraw_key(snapshot: Snapshot, _fields: Fields) -> Any:
    """Return the table's hidden columns; callbacks update everything else."""
    return _hidden(snapshot.records)


def register(app: Dash, library: Library) -> None:
    """Register callbacks that send only changed rows, so the table keeps its sort and filters."""

    @app.callback(
        Output("status", "children"),
        Output("hypervolume", "figure"),
        Output("messages", "children"),
        Output("trials", "rowTransaction"),
        Output("open-trial", "children"),
        Output("search-drawn", "data"),
        Input("view", "data"),
        Input("version", "data"),
        State("search-drawn", "data"),
        prevent_initial_call=True,
    )
    def redraw(fields: Fields, _version: Any, drawn: dict[str, Any]) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        now = _drawn(fields, snapshot, library)
        if now == drawn:
            return (no_update,) * 6
        records = snapshot.records
        fresh = {r.trial for r in records if r.trial > drawn["last"]}
        changed = set(drawn["running"]) | (set(drawn["front"]) ^ set(now["front"]))
        changed |= set(drawn["int8"]) ^ set(now["int8"])
        if any(drawn[key] != now[key] for key in ("predicted", "trained")):
            changed |= {r.trial for r in records}
        rows = _rows(snapshot, fresh | changed)
        return (
            _status(snapshot),
            _figure(snapshot, View.parse(fields), library),
            _messages(records),
            {
                "add": [row for row in rows if row["trial"] in fresh],
                "update": [row for row in rows if row["trial"] not in fresh],
            }
            if rows
            else no_update,
            _open_link(fields),
            now,
        )

    @app.callback(
        Output("live", "children"),
        Output("live-drawn", "data"),
        Input("tick", "n_intervals"),
        State("view", "data"),
        State("live-drawn", "data"),
        prevent_initial_call=True,
    )
    def follow(_tick: int, fields: Fields, drawn: float | None) -> Any:
        snapshot = library.snapshot(fields.get("study"))
        now = _live_key(snapshot)
        return (no_update, no_update) if now == drawn else (live_panel(snapshot), now)

    @app.callback(
        Output("view", "data", allow_duplicate=True),
        Input("trials", "selectedRows"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def select(rows: list[dict[str, Any]], fields: Fields) -> Any:
        return {**fields, "trial": str(rows[0]["trial"])} if rows else no_update

    @app.callback(
        Output("csv", "data"),
        Input("take-csv", "n_clicks"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def export(_clicks: int, fields: Fields) -> Any:
        frame = to_frame(library.snapshot(fields.get("study")).records)
        return {"content": frame.to_csv(index=False), "filename": "trials.csv"}


def _live_key(snapshot: Snapshot) -> float | None:
    """Return the time when the run in progress last wrote; None without a run."""
    progress = RunProgress.read(snapshot.folder)
    return None if progress is None else progress.written


def _drawn(fields: Fields, snapshot: Snapshot, library: Library) -> dict[str, Any]:
    records, other = snapshot.records, _beside(View.parse(fields), library)
    return {
        "other": None if other is None else other.version,
        **{key: fields.get(key) for key in ("study", "trial", "against", "beside")},
        "version": snapshot.version,
        "last": records[-1].trial if records else -1,
        "running": [r.trial for r in records if r.state is TrialState.RUNNING],
        "front": sorted(_on_front(snapshot)),
        "int8": [r.trial for r in records if r.int8_accuracy is not None],
        "predicted": round(sum(r.predicted or 0.0 for r in records), 6),
        "trained": sum(len(r.finals) + (r.promotion is not None) for r in records),
    }


def _figure(snapshot: Snapshot, view: View, library: Library) -> Any:
    other = _beside(view, library)
    beside = None if other is None else (other.name, other.records)
    figure = hypervolume_figure(snapshot.records, view.against, beside)
    return figure.update_layout(uirevision=f"{view.study}/{view.against}")


def _beside(view: View, library: Library) -> Snapshot | None:
    """Return the study selected for comparison, or None."""
    if view.beside is None or view.beside not in library.names():
        return None
    return library.snapshot(view.beside)


def _status(snapshot: Snapshot) -> Any:
    records = snapshot.records
    facts = [(each.word, sum(r.state is each for r in records)) for each in _STATES]
    shown = [(name.capitalize(), f"{count:,}") for name, count in facts]
    saved = savings(records)
    if saved.share is not None:
        shown.append(("Saved by racing", f"{saved.seconds_saved:,.0f} s ({saved.share:.0%})"))
    return dmc.SimpleGrid(
        [
            dmc.Paper(
                [dmc.Text(name, size="sm", c="dimmed"), dmc.Text(value, fw=600)],
                withBorder=True,
                p="sm",
                radius="md",
            )
            for name, value in shown
        ],
        cols={"base": 2, "sm": 3, "md": len(shown)},
        mb="md",
    )


def _messages(records: Sequence[TrialRecord]) -> list[Component]:
    """Return a panel of the messages of failed trials, and one of the reasons for pruning."""
    found = (
        (TrialState.FAILED, "Failed", "Message"),
        (TrialState.PRUNED, "Pruned", "Reason"),
    )
    panels = []
    for state, title, head in found:
        told = [r for r in reversed(records) if r.state is state]
        if not told:
            continue
        rows = [[r.label, r.error or "no message"] for r in told[:_SHOWN_MESSAGES]]
        text = f"{title} ({len(told):,})"
        if len(told) > _SHOWN_MESSAGES:
            text += f", the last {_SHOWN_MESSAGES}"
        table = parts.table(("Network", head), rows, long=True)
        content = html.Div(table, className="tall", tabIndex=0, id=title.lower())
        panels.append(parts.panel(text, content, mb="md"))
    return panels


def _open_link(fields: Fields) -> Any:
    trial = View.parse(fields).trial
    if trial is None:
        return dmc.Text("Select a row to open its network.", size="sm", c="dimmed")
    return dcc.Link(f"Open trial {trial}", href=f"network{query(fields)}")


def _grid(snapshot: Snapshot) -> Any:
    return dag.AgGrid(
        id="trials",
        columnDefs=_columns(snapshot),
        rowData=_rows(snapshot),
        getRowId="params.data.id",
        defaultColDef={
            "sortable": True,
            "filter": True,
            "resizable": True,
            "flex": 1,
            "minWidth": 112,
            "wrapHeaderText": True,
            "autoHeaderHeight": True,
        },
        dashGridOptions={
            "theme": {"function": _THEME},
            "rowSelection": {
                "mode": "singleRow",
                "checkboxes": False,
                "enableClickSelection": True,
            },
            "animateRows": False,
            "ensureDomOrder": True,
        },
        style={"height": "520px"},
    )


def _hidden(records: Sequence[TrialRecord]) -> list[str]:
    """Return the fields of the columns that no trial has a value for."""
    known = {
        "promotion": any(r.promotion for r in records),
        "finals": any(r.finals for r in records),
        "flash": any("flash_bytes" in r.costs for r in records),
        "ram": any("ram_bytes" in r.costs for r in records),
    }
    return [field for field, shown in known.items() if not shown]


def _on_front(snapshot: Snapshot) -> set[int]:
    return {r.trial for r in front_of(snapshot.findings.within)}


def _rows(snapshot: Snapshot, trials: Collection[int] | None = None) -> list[dict[str, Any]]:
    """Return the table's rows for the given trials, or for all trials if None."""
    on_front, finals = _on_front(snapshot), finals_accuracies(snapshot.findings)
    return [
        {
            "id": str(r.trial),
            "trial": r.trial,
            "network": r.label,
            "state": r.state.word,
            "accuracy": None if r.evaluation is None else r.evaluation.accuracy,
            "promotion": None if r.promotion is None else r.promotion.accuracy,
            "finals": finals[r.trial].mean if r.finals else None,
            "predicted": r.predicted,
            "int8": r.int8_accuracy,
            "on_front": "yes" if r.trial in on_front else "",
            "mult_adds": r.mult_adds,
            "params": r.costs["params"],
            "memory": r.costs["peak_activation_bytes"],
            "flash": r.costs.get("flash_bytes"),
            "ram": r.costs.get("ram_bytes"),
            "alpha": r.architecture.alpha,
            "resolution": r.architecture.resolution.plain,
            "seconds": None if r.evaluation is None else r.evaluation.seconds,
            "message": r.error,
        }
        for r in snapshot.records
        if trials is None or r.trial in trials
    ]
