"""Page of published ImageNet results and the audit of the proxy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, html
from dash.development.base_component import Component

from mbsearch.analysis.published_results import published
from mbsearch.config.settings import SCRATCH
from mbsearch.dashboard import parts
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.audit import HEAD, audit_facts, audit_figure, audit_rows
from mbsearch.figures.published import AXES, PUBLISHED_FAMILIES, published_figure
from mbsearch.study.identity import IDENTITY
from mbsearch.study.opening import RESULTS

TITLE, ADDRESS, ORDER = "Published", "published", 6
NEEDS = "results"


def layout(snapshot: Snapshot, fields: Fields, _library: Library) -> Component:
    """Return the components of the page."""
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
                **parts.aria(label="Horizontal axis"),
            ),
            parts.graph(
                "published",
                published_figure(published(), axis),
                "ImageNet accuracy against cost of published networks",
            ),
            parts.panel("Rank agreement of the proxy", *_audit(snapshot), my="md"),
            parts.panel("Every published row, with its source", _table()),
        ]
    )


def redraw_key(snapshot: Snapshot, _fields: Fields) -> Any:
    """Return the audit's contents."""
    audit = snapshot.measured.audit
    return None if audit is None else [audit.sentence(), audit_rows(audit), audit_facts(audit)]


def register(app: Dash, _library: Library) -> None:
    """Register the callback that redraws the plot for another cost axis."""

    @app.callback(Output("published", "figure"), Input("view", "data"), prevent_initial_call=True)
    def redraw(fields: Fields) -> object:
        return published_figure(published(), View.parse(fields).axis)


def _audit(snapshot: Snapshot) -> list[Component]:
    """Return the audit's results, or the command that runs an audit."""
    audit = snapshot.measured.audit
    if audit is None:
        command = audit_command(snapshot.folder, snapshot.settings)
        text = f"Not measured yet; to measure it, run {command}"
        return [dmc.Text(text, id="audit")]
    sentence = audit.sentence()
    return [
        dmc.Text(f"{sentence[0].upper()}{sentence[1:]}.", fw=600, id="audit"),
        dmc.Text(audit_facts(audit), size="sm", c="dimmed"),
        parts.graph(
            "agreement",
            audit_figure(audit),
            "Kendall's tau of each score with the long training",
            "340px",
        ),
        parts.table(HEAD, audit_rows(audit)),
    ]


def audit_command(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return the command that audits a study with its images and its stored space."""
    folder = folder if folder.name else folder.resolve()
    words = ["mbsearch", "audit", "--space", str(folder / "space.yaml"), "--name", folder.name]
    if (identity := settings.get(IDENTITY)) is not None:
        words += ["--data", identity["data"], "--seed", str(identity["seed"])]
        if "weights" not in identity:  # studies of older versions train from scratch
            words += ["--weights", SCRATCH]
    if folder.parent != RESULTS:
        words += ["--results", str(folder.parent)]
    return shlex.join(words)


def _table() -> Component:
    head = ("Network", "Family", "Source", "Top-1", "Mult-Adds (M)", "Params (M)", "Pixel 1 (ms)")
    rows = [
        [
            r.model,
            PUBLISHED_FAMILIES[r.family][0],
            html.Span(r.source, className="source"),
            f"{r.top1:.1%}",
            f"{r.mult_adds / 1e6:g}",
            f"{r.params / 1e6:g}",
            "" if r.pixel1_ms is None else f"{r.pixel1_ms:g}",
        ]
        for r in published()
    ]
    return parts.table(head, rows, text_columns=3)
