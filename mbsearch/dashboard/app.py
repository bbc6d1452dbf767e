"""The Dash application: address, header, live updates, and who may ask."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.dependencies import ALL
from dash.development.base_component import Component
from flask import abort, request

from mbsearch.dashboard import parts
from mbsearch.dashboard.pages import choices, compare, front, network, published, search
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import PAGES, query, read_query
from mbsearch.study.records import DEFAULT_METRIC, complete, metric_of
from mbsearch.study.records import State as TrialState

POLL_MILLISECONDS = 2_000
_PAGES: dict[str, Any] = {
    "front": front,
    "network": network,
    "compare": compare,
    "search": search,
    "choices": choices,
    "published": published,
}


def create_app(library: Library) -> Dash:
    """The page of a library of studies, ready to be served."""
    app = Dash(
        __name__,
        title="mbsearch",
        update_title="",  # an empty one keeps the title still while it updates
        suppress_callback_exceptions=True,
        serve_locally=True,
        enable_mcp=False,
        add_log_handler=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.server.before_request(_refuse_foreign_hosts)
    app.layout = dmc.MantineProvider(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Interval(id="tick", interval=POLL_MILLISECONDS),
            dcc.Store(id="view", data={}),
            dcc.Store(id="version"),
            dcc.Store(id="shown"),
            html.Div(id="shell"),
            html.Div(id="address", hidden=True),
        ],
        defaultColorScheme="auto",
        theme={"primaryColor": "blue", "fontFamily": "system-ui, -apple-system, sans-serif"},
    )
    _register(app, library)
    for page in _PAGES.values():
        page.register(app, library)
    return app


def _register(app: Dash, library: Library) -> None:
    @app.callback(
        Output("version", "data"),
        Input("tick", "n_intervals"),
        State("view", "data"),
        State("version", "data"),
        # Dash drops an answer that the same callback's next question overtakes.
        running=[(Output("tick", "disabled"), True, False)],
        prevent_initial_call=True,
    )
    def poll(_tick: int, view: Fields, version: Any) -> Any:
        snapshot = library.snapshot(view.get("study"))
        now = {"study": snapshot.name, "version": snapshot.version}
        return no_update if version == now else now

    @app.callback(
        Output("shell", "children"),
        Output("view", "data"),
        Output("shown", "data"),
        Input("url", "pathname"),
        Input("url", "search"),
        Input("version", "data"),
        State("view", "data"),
        State("shown", "data"),
    )
    def show(pathname: str, search: str, _version: Any, view: Fields, shown: Any) -> Any:
        address = [pathname, search]
        # What triggered it does not say all: a version may be new together with the address.
        moved = ctx.triggered_id != "version" or shown is None or shown["address"] != address
        fields = read_query(search) if moved else view
        snapshot = library.snapshot(fields.get("study"))
        stamp = _stamp(pathname, fields, snapshot)
        if not moved and shown["stamp"] == stamp:
            return no_update, no_update, no_update
        fields = {**_objective(snapshot), **fields, "study": snapshot.name}
        now = {"address": address, "stamp": stamp}
        return _shell(pathname, fields, snapshot, library), fields, now

    @app.callback(
        Output("url", "search"),
        Input("study", "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def switch(name: str, fields: Fields) -> Any:
        return no_update if name == fields.get("study") else query({"study": name})

    app.clientside_callback(
        ClientsideFunction("mbsearch", "collect"),
        Output("view", "data", allow_duplicate=True),
        Input({"control": ALL}, "value"),
        Input({"control": ALL, "log": ALL, "top": ALL, "start": ALL}, "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("mbsearch", "pick"),
        Output("view", "data", allow_duplicate=True),
        Input("front", "clickData"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("mbsearch", "address"),
        Output({"nav": ALL}, "href"),
        Input("view", "data"),
        State({"nav": ALL}, "id"),
        prevent_initial_call=True,
    )


def _objective(snapshot: Snapshot) -> Fields:
    """The axis that an address means which names none: the cost that the study was searched by."""
    metric = metric_of(snapshot.records)
    return {} if metric == DEFAULT_METRIC else {"metric": metric}


def _instead(snapshot: Snapshot) -> list[str] | None:
    """Title, text and colour of what is shown where there is nothing to see of a study."""
    if snapshot.loading:
        return [
            "Reading the study",
            f"{snapshot.location} is large; this page opens when it is read.",
            "blue",
        ]
    if snapshot.problem is not None:
        return ["This study cannot be shown", snapshot.problem, "red"]
    if complete(list(snapshot.records)):
        return None
    failed = [r for r in snapshot.records if r.state is TrialState.FAILED]
    running = sum(r.state is TrialState.RUNNING for r in snapshot.records)
    if failed and not running:
        text = f"{len(failed)} failed; the last one said: {failed[-1].error}"
        return ["Every training has failed", text, "red"]
    text = f"{running} in training; the page fills itself as trainings end."
    return ["No network has been trained yet", text, "blue"]


def _stamp(pathname: str, fields: Fields, snapshot: Snapshot) -> list[Any]:
    """What makes the whole page be drawn anew; everything else is the page's own matter."""
    instead, page = _instead(snapshot), _page_name(pathname)
    stamp = getattr(_PAGES.get(page), "stamp", None)
    drawn = stamp(snapshot, fields) if stamp and instead is None else None
    return [snapshot.name, instead, drawn, list(snapshot.measured.problems)]


def _page_name(pathname: str) -> str:
    return pathname.strip("/") or "front"


def _shell(pathname: str, fields: Fields, snapshot: Snapshot, library: Library) -> Component:
    page = _page_name(pathname)
    return html.Div(
        [
            html.A("Skip to content", href="#content", className="skip"),
            _header(page, fields, snapshot, library.names()),
            html.Main(_body(page, fields, snapshot, library), id="content"),
        ]
    )


def _header(page: str, fields: Fields, snapshot: Snapshot, names: list[str]) -> Component:
    links = [
        dcc.Link(
            title,
            id={"nav": name},
            href=f"/{name}{query(fields)}",
            className="nav here" if name == page else "nav",
        )
        for name, title in PAGES.items()
    ]
    return html.Header(
        [
            html.Span("mbsearch", className="brand"),
            html.Nav(links, **parts.aria(label="Pages")),
            dmc.Select(
                id="study",
                value=snapshot.name,
                data=names,
                allowDeselect=False,
                size="xs",
                **parts.aria(label="Study"),
            ),
        ]
    )


def _body(page: str, fields: Fields, snapshot: Snapshot, library: Library) -> Component:
    if page not in _PAGES:
        known = ", ".join(PAGES)
        return parts.notice("No such page", f"Expected one of {known}, got {page!r}.", "red")
    if (instead := _instead(snapshot)) is not None:
        return parts.notice(*instead)
    return html.Div(
        [*parts.damaged(snapshot.measured), _PAGES[page].layout(snapshot, fields, library)]
    )


def _refuse_foreign_hosts() -> None:
    """Answer this machine's names only: a foreign page could be pointed here by its own DNS."""
    host = urlsplit(f"//{request.host}").hostname or ""
    if host in ("localhost", socket.gethostname().lower(), socket.getfqdn().lower()):
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        abort(403, "this name is not one of the dashboard's machine")
