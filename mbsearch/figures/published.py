"""Figure of published ImageNet results against cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from mbsearch.analysis.published_results import Published
from mbsearch.config.families import FAMILIES
from mbsearch.cost.metrics import METRICS, quantity
from mbsearch.figures.style import OTHER, cost_axis, styled

PUBLISHED_FAMILIES = {
    **{key: (row.label, row.colour, row.symbol) for key, row in FAMILIES.items() if row.competitor},
    "mobilenet_v3": ("MobileNet V3", "#0072B2", "circle"),
    "mnasnet_a1": ("MnasNet-A1", OTHER, "triangle-up"),
}
AXES = {
    **{key: METRICS[key].column for key in ("mult_adds", "params")},
    "pixel1_ms": "Pixel 1 latency",
}


def published_figure(rows: Sequence[Published], axis: str = "mult_adds") -> go.Figure:
    """Return published ImageNet accuracy against `mult_adds`, `params` or `pixel1_ms`."""
    figure = go.Figure()
    for family, (name, colour, symbol) in PUBLISHED_FAMILIES.items():
        members = [r for r in rows if r.family == family and getattr(r, axis) is not None]
        members.sort(key=lambda r: float(getattr(r, axis)))
        figure.add_trace(
            go.Scatter(
                x=[getattr(r, axis) for r in members],
                y=[r.top1 for r in members],
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 9},
                customdata=[
                    [r.model, _hover_text(axis, getattr(r, axis)), f"{r.alpha:g}", r.resolution]
                    for r in members
                ],
                hovertemplate="<b>%{customdata[0]}</b><br>top-1 %{y:.1%}<br>%{customdata[1]}<br>"
                "alpha %{customdata[2]}, resolution %{customdata[3]}<extra></extra>",
            )
        )
    x: dict[str, Any]
    values = [value for r in rows if (value := getattr(r, axis)) is not None]
    if axis == "pixel1_ms":
        x = {
            "type": "log",
            "title": {"text": "Latency on a Pixel 1 (milliseconds)"},
            "tickvals": [5, 10, 20, 50, 100],
        }
    else:
        x = cost_axis(axis, min(values), max(values))
    return styled(
        figure,
        xaxis=x,
        yaxis={"title": {"text": "ImageNet top-1, full training"}, "tickformat": ".0%"},
        hovermode="closest",
    )


def _hover_text(axis: str, value: float) -> str:
    if axis == "pixel1_ms":
        return f"{value:g} ms on a Pixel 1"
    return f"{quantity(axis, value)} {AXES[axis]}"
