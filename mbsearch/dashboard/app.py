"""The Dash application: URL, header and live updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.dependencies import ALL
from dash.development.base_component import Component

from mbsearch.dashboard import parts
from mbsearch.dashboard.address import THIS_MACHINE, Address
from mbsearch.dashboard.pages import pages
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.study_facts import study_facts
from mbsearch.dashboard.view import query, read_query
from mbsearch.figures.style import BEHAVIOUR
from mbsearch.study.records import DEFAULT_METRIC, complete, metric_of
from mbsearch.study.records import State as TrialState

POLL_MILLISECONDS = 2_000


def create_app(library: Library, address: Address = THIS_MACHINE) -> Dash:
    """Return the Dash application for a library of studies.

    Links between its pages are relative, so that they need no prefix.
    """
    app = Dash(
        __name__,
        title="mbsearch",
        update_title="",  # an empty one keeps the title during updates
        suppress_callback_exceptions=True,
        serve_locally=True,
        requests_pathname_prefix=address.prefix,
        routes_pathname_prefix="/",
        enable_mcp=False,
        add_log_handler=False,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">').replace(
        "</head>", f"<script>{BEHAVIOUR}</script></head>"
    )
    app.server.before_request(address.refuse_foreign_hosts)
    app.server.wsgi_app = address.without_prefix(app.server.wsgi_app)
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
        theme={
            "primaryColor": "blue",
            "primaryShade": 8,
            "fontFamily": "system-ui, -apple-system, sans-serif",
        },
    )
    _register(app, library, address)
    for page in pages().values():
        page.register(app, library)
    return app


def _register(app: Dash, library: Library, address: Address) -> None:
    @app.callback(
        Output("version", "data"),
        Input("tick", "n_intervals"),
        State("view", "data"),
        State("version", "data"),
        # Dash drops an answer if the same callback is called again before it arrives.
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
        place = [pathname, search]
        # A new version and a new address may arrive together, with one trigger.
        moved = ctx.triggered_id != "version" or shown is None or shown["address"] != place
        pathname = address.within(pathname)
        fields = read_query(search) if moved else view
        snapshot = library.snapshot(fields.get("study"))
        key = _redraw_key(pathname, fields, snapshot)
        if not moved and shown["key"] == key:
            return no_update, no_update, no_update
        fields = {**_objective(snapshot), **fields, "study": snapshot.name}
        now = {"address": place, "key": key}
        return _shell(pathname, fields, snapshot, library), fields, now

    @app.callback(
        Output("url", "search"),
        Input("study", "value"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def switch(name: str, fields: Fields) -> Any:
        return no_update if name == fields.get("study") else query({"study": name})

    @app.callback(
        Output("facts", "children"),
        Input("version", "data"),
        State("view", "data"),
        prevent_initial_call=True,
    )
    def refresh(_version: Any, fields: Fields) -> str:
        return study_facts(library.snapshot(fields.get("study")))

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
        ClientsideFunction("studies", "title"),
        Output("address", "title"),
        Input("view", "data"),
        State("url", "pathname"),
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
    """Return the URL field that selects the study's cost objective as the cost axis."""
    metric = metric_of(snapshot.records)
    return {} if metric == DEFAULT_METRIC else {"metric": metric}


@dataclass(frozen=True, slots=True)
class _Notice:
    """A text shown instead of a page while a study has nothing to show."""

    title: str
    text: str
    colour: str = "blue"


def _notice(snapshot: Snapshot) -> _Notice | None:
    """Return the notice for a study; None if its pages can be shown."""
    if snapshot.loading:
        text = f"{snapshot.location} is large; this page opens when it is read."
        return _Notice("Reading the study", text)
    if snapshot.problem is not None:
        return _Notice("This study cannot be shown", snapshot.problem, "red")
    if complete(list(snapshot.records)):
        return None
    failed = [r for r in snapshot.records if r.state is TrialState.FAILED]
    running = sum(r.state is TrialState.RUNNING for r in snapshot.records)
    if failed and not running:
        text = f"{len(failed)} failed; the last error: {failed[-1].error}"
        return _Notice("Every training has failed", text, "red")
    text = f"{running} running; this page updates itself when trainings complete."
    return _Notice("No network has been trained yet", text)


def _redraw_key(pathname: str, fields: Fields, snapshot: Snapshot) -> list[Any]:
    """Return data that the page's layout depends on; the page is redrawn if it changes."""
    notice, page = _notice(snapshot), _page_name(pathname)
    shows = page in pages() and _is_drawn(page, snapshot, notice)
    drawn = pages()[page].redraw_key(snapshot, fields) if shows else None
    shown = None if notice is None else [notice.title, notice.text]
    return [snapshot.name, shown, drawn, list(snapshot.measured.problems)]


def _page_name(pathname: str) -> str:
    return pathname.strip("/") or next(iter(pages()))


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
            each.TITLE,
            id={"nav": address},
            href=f"{address}{query(fields)}",
            className="nav here" if address == page else "nav",
        )
        for address, each in pages().items()
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
            html.Div(study_facts(snapshot), id="facts"),
        ]
    )


def _body(page: str, fields: Fields, snapshot: Snapshot, library: Library) -> Component:
    if page not in pages():
        known = ", ".join(pages())
        return parts.notice_alone("No such page", f"Expected one of {known}, got {page!r}.", "red")
    notice = _notice(snapshot)
    above = [] if notice is None else [parts.notice(notice.title, notice.text, notice.colour)]
    above = [] if pages()[page].NEEDS == "nothing" else above
    if not _is_drawn(page, snapshot, notice):
        return html.Div([parts.page_title(pages()[page].TITLE), *above])
    content = pages()[page].layout(snapshot, fields, library)
    return html.Div([*above, *parts.damaged(snapshot.measured), content])


def _is_drawn(page: str, snapshot: Snapshot, notice: _Notice | None) -> bool:
    """Return whether the study's state meets the page's `NEEDS`, so that the page can be shown."""
    needs = pages()[page].NEEDS
    if snapshot.loading or snapshot.problem is not None:
        return needs == "nothing"
    return notice is None or needs != "results"
