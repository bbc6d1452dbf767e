"""One network: the costs of its layers, and its learning curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mbsearch.config.families import COMPETITORS, FAMILIES
from mbsearch.cost import LayerCost, layer_costs
from mbsearch.cost.metrics import METRICS, quantity
from mbsearch.figures.style import FRONT, styled, validation_title
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import TrialRecord, score_of_study

_CANDIDATE_COLOURS = (FRONT, "#CC79A7", "#009E73", "#56B4E9")  # none is a family's
_KIND_COLOURS = {
    "pointwise": "#0072B2",
    "depthwise": "#E69F00",
    "convolution": "#CC79A7",
    "squeeze-excite": "#009E73",
    "linear": "#D55E00",
}


def layer_bars(architecture: Architecture) -> go.Figure:
    """Return bars of each layer's Mult-Adds, parameters and memory, in execution order."""
    rows = layer_costs(architecture)
    panels = {
        "mult_adds": METRICS["mult_adds"].column,
        "params": METRICS["params"].column,
        "activation_bytes": "Memory (MiB)",
    }
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for i, (metric, title) in enumerate(panels.items(), start=1):
        for kind, colour in _KIND_COLOURS.items():
            members = [row for row in rows if _kind(row) == kind]
            if not members:
                continue
            values = [getattr(row, metric) for row in members]
            figure.add_trace(
                go.Bar(
                    x=[row.name for row in members],
                    y=[v / 2**20 for v in values] if i == 3 else values,
                    name=kind,
                    legendgroup=kind,
                    showlegend=i == 1,
                    marker={"color": colour, "line": {"width": 0}},
                    customdata=[
                        [row.kind, quantity(metric, v)] for row, v in _pairs(members, values)
                    ],
                    hovertemplate="%{x}<br>%{customdata[0]}<br><b>%{customdata[1]}</b><extra></extra>",
                ),
                row=i,
                col=1,
            )
        figure.update_yaxes(title_text=title, row=i, col=1)
    styled(figure, bargap=0.15, hovermode="closest")
    figure.update_xaxes(
        categoryorder="array", categoryarray=[row.name for row in rows], showticklabels=False
    )
    figure.update_xaxes(title_text="Layers, first to last", row=3, col=1)
    figure.update_yaxes(nticks=4, rangemode="tozero")
    return figure


def curve_figure(shown: Sequence[TrialRecord], records: Sequence[TrialRecord]) -> go.Figure:
    """Return learning curves of networks and of the MobileNets closest in cost to `shown[0]`.

    A family of which a network is shown has no further curve.

    The curves are of the longer training if each network has one, else of the short training.
    """
    raw = {record.trial: record for record in records}
    drawn = [raw.get(record.trial, record) for record in shown]
    families = [family for family in COMPETITORS if family not in {r.origin for r in shown}]
    near = [nearest(records, family, shown[0].cost) for family in families]
    references = [reference for reference in near if reference is not None]
    promoted = all(record.promotion is not None for record in (*drawn, *references))
    if promoted:
        drawn, references = (
            [record.at_highest_fidelity for record in each] for each in (drawn, references)
        )
    figure = go.Figure()
    for reference in references:
        name = f"{reference.label}, {quantity(reference.metric, reference.cost)}"
        figure.add_trace(_curve(reference, name, FAMILIES[reference.origin].colour, "dot"))
    for record, colour in zip(drawn, _colours(drawn), strict=True):
        name = f"{escape(record.label)}, {quantity(record.metric, record.cost)}"
        figure.add_trace(_curve(record, name, colour, "solid"))
    epochs = max((len(r.evaluation.curve) for r in drawn if r.evaluation), default=1)
    styled(figure, hovermode="x unified")
    figure.update_xaxes(title_text="Epoch", dtick=max(1, math.ceil(epochs / 12)))
    title = validation_title(score_of_study(drawn), promoted=promoted)
    figure.update_yaxes(title_text=title, tickformat=".2f")
    return figure


def nearest(records: Sequence[TrialRecord], family: str, cost: int) -> TrialRecord | None:
    """Return the family's baseline with the nearest log cost; None if it has no baseline."""
    members = [r for r in records if r.origin == family and r.evaluation is not None]
    return min(members, key=lambda r: abs(math.log(r.cost / cost)), default=None)


def _colours(records: Sequence[TrialRecord]) -> list[str]:
    """Return a colour for each network; a reference has the colour of its family."""
    candidates = iter(_CANDIDATE_COLOURS)
    return [
        FAMILIES[r.origin].colour if r.origin in FAMILIES else next(candidates) for r in records
    ]


def _curve(record: TrialRecord, name: str, colour: str, dash: str) -> go.Scatter:
    curve = record.evaluation.curve if record.evaluation else ()
    return go.Scatter(
        x=list(range(1, len(curve) + 1)),
        y=[epoch.validation_accuracy for epoch in curve],
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        hovertemplate="%{y:.3f}",
    )


def _kind(row: LayerCost) -> str:
    if row.kind.startswith("conv"):
        return "pointwise" if row.kind.startswith("conv 1x1") else "convolution"
    return next((kind for kind in _KIND_COLOURS if row.kind.startswith(kind)), "")


def _pairs(rows: Sequence[LayerCost], values: Sequence[int]) -> Iterator[tuple[LayerCost, int]]:
    return zip(rows, values, strict=True)
