"""Components shared by the dashboard's pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import dcc, html

from mbsearch.analysis.step_accuracies import accuracy_text
from mbsearch.cost.metrics import COSTS, MEASURED_US, amount, quantity
from mbsearch.dashboard.view import query
from mbsearch.figures.style import CONFIG
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.records import Fidelity, TrialRecord

Fields = Mapping[str, Any]
"""The fields of a URL's query, as the browser stores them."""


def aria(**attributes: str) -> dict[str, Any]:
    """Return ARIA attributes as a dictionary, because their names contain hyphens."""
    return {f"aria-{name}": value for name, value in attributes.items()}


def graph(
    identifier: str,
    figure: go.Figure,
    description: str,
    height: str = "clamp(340px, 62vh, 640px)",
    *,
    tools: bool = True,
    lasso: bool = False,
) -> html.Div:
    """Return a plot with alternative text, and with zoom and save buttons if `tools`.

    With `lasso`, a button draws a line around points, which selects them.

    The box has the height of the plot before the browser has loaded plotly.
    """
    image: Any = {"format": "svg", "filename": f"mbsearch-{identifier}"}
    config: Any = {**CONFIG, "displayModeBar": tools and "hover", "toImageButtonOptions": image}
    if lasso:
        config["modeBarButtons"] = [*CONFIG["modeBarButtons"], ["lasso2d"]]
    return html.Div(
        dcc.Graph(
            id=identifier,
            figure=figure,
            responsive=True,
            clear_on_unhover=True,
            style={"height": "100%"},
            config=config,
        ),
        style={"height": height},
        role="group",
        **aria(label=description),
    )


def page_title(text: str) -> html.H1:
    """Return a page's heading for screen readers; the header's link shows the title already."""
    return html.H1(text, className="spoken")


def panel(title: str, *children: Any, **paper: Any) -> dmc.Paper:
    """Return a titled box."""
    return dmc.Paper(
        [dmc.Title(title, order=2, size="h5", mb="sm"), *children],
        withBorder=True,
        radius="md",
        p="md",
        **paper,
    )


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    text_columns: int = 1,
    *,
    long: bool = False,
) -> Any:
    """Return a table: `text_columns` columns of text, then numbers, or text if `long`."""
    others = "long" if long else "number"

    def cells(kind: Any, row: Sequence[Any]) -> list[Any]:
        return [
            kind(cell, className="text" if i < text_columns else others)
            for i, cell in enumerate(row)
        ]

    return html.Div(
        dmc.Table(
            [
                dmc.TableThead(dmc.TableTr(cells(dmc.TableTh, head))),
                dmc.TableTbody([dmc.TableTr(cells(dmc.TableTd, row)) for row in rows]),
            ],
            highlightOnHover=True,
            verticalSpacing=4,
        ),
        className="scroll",
        tabIndex=0,  # a keyboard scrolls it
    )


def network_link(record: TrialRecord, fields: Fields) -> dcc.Link:
    """Return a link to a network's page."""
    address = query({**fields, "trial": record.trial})
    return dcc.Link(record.label, href=f"network{address}")


def accuracy(record: TrialRecord) -> str:
    """Return a record's accuracy as ``0.871 ± 0.006``, or else its state."""
    record = record.at_highest_fidelity
    return record.state.word if record.evaluation is None else accuracy_text(record)


def accuracy_and_step(record: TrialRecord) -> str:
    """Return a record's accuracy and its step, ``0.871 ± 0.006, screening``, or else its state."""
    if record.evaluation is None:
        return record.state.word
    step = Fidelity.SCREENING if record.promotion is None else Fidelity.PROMOTION
    return f"{accuracy(record)}, {step}"


def costs(record: TrialRecord) -> str:
    """Return a network's costs as text, such as ``300.8 M Mult-Adds, 3.5 M parameters``."""
    keys = [metric.key for metric in COSTS.values() if metric.key in record.costs]
    return ", ".join(amount(key, record.costs[key]) for key in keys)


def latencies(record: TrialRecord, measured: Artifacts) -> str:
    """Return the measured latencies as text, such as ``0.17 ms by onnxruntime``."""
    times = {
        metric.removesuffix(MEASURED_US): quantity(metric, found[record.fingerprint].median)
        for metric, found in measured.latencies.items()
        if record.fingerprint in found
    }
    return ", ".join(f"{time} by {engine}" for engine, time in times.items())


def notice(title: str, text: str, colour: str = "blue") -> dmc.Alert:
    """Return a notice shown instead of a page's content."""
    return dmc.Alert(text, title=title, color=colour, variant="light", my="xl", id="notice")


def notice_alone(title: str, text: str, colour: str = "blue") -> html.Div:
    """Return a notice with a heading for screen readers, as the only content of a page."""
    return html.Div([page_title(title), notice(title, text, colour)])


def damaged(measured: Artifacts) -> list[dmc.Alert]:
    """Return an alert for each damaged file beside a study."""
    return [
        dmc.Alert(problem, color="red", variant="light", mb="md", className="damaged")
        for problem in measured.problems
    ]
