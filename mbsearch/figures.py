"""Figures: pure functions from records to plotly figures."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from mbsearch.records import BASELINE_FAMILIES, TrialRecord, complete
from mbsearch.results import front, millions

# Okabe and Ito's palette: told apart with any kind of colour vision.
COLOURS = {
    "search": "#999999",
    "front": "#0072B2",
    "mobilenet_v1": "#E69F00",
    "mobilenet_v2": "#D55E00",
    "other": "#009E73",
}
NAMES = {"mobilenet_v1": "MobileNet V1", "mobilenet_v2": "MobileNet V2"}
SYMBOLS = {"mobilenet_v1": "square", "mobilenet_v2": "diamond"}
# Plotly's own labels between the decades are bare digits.
_TICKS = [mantissa * 10**exponent for exponent in range(3, 11) for mantissa in (1, 2, 5)]
_HOVER = (
    "<b>%{customdata[0]}</b><br>accuracy %{y:.3f}<br>%{customdata[1]} Mult-Adds<br>"
    "%{customdata[2]} params<br>alpha %{customdata[3]}, resolution %{customdata[4]}<extra></extra>"
)


def front_figure(records: Sequence[TrialRecord], title: str) -> go.Figure:
    """Accuracy against Mult-Adds (log axis): trials, front, MobileNet V1 and V2 by resolution."""
    done = complete(list(records))
    figure = go.Figure()
    searched = [r for r in done if not r.is_baseline]
    figure.add_trace(_points(searched, "Search trials", COLOURS["search"], "circle", 7, 0.6))
    for family in BASELINE_FAMILIES:
        members = [r for r in done if r.origin == family]
        for i, resolution in enumerate(sorted({r.architecture.resolution for r in members})):
            line = sorted(
                (r for r in members if r.architecture.resolution == resolution),
                key=lambda r: r.mult_adds,
            )
            trace = _points(line, NAMES[family], COLOURS[family], SYMBOLS[family], 10, 1.0)
            trace.update(mode="lines+markers+text", legendgroup=family, showlegend=i == 0)
            trace.update(text=[_label(r) for r in line], textposition="bottom right")
            trace.update(line={"color": COLOURS[family], "width": 1.5, "dash": "dot"})
            figure.add_trace(trace)
    others = [r for r in done if r.is_baseline and r.origin not in BASELINE_FAMILIES]
    if others:
        figure.add_trace(
            _points(others, "Other references", COLOURS["other"], "triangle-up", 10, 1.0)
        )
    best = front(records)
    trace = _points(best, "Pareto front", COLOURS["front"], "circle", 9, 1.0)
    noise = best[0].accuracy_noise if best else None
    trace.update(mode="lines+markers", line={"color": COLOURS["front"], "width": 2, "shape": "hv"})
    if noise is not None:
        trace.update(error_y={"type": "constant", "value": noise, "thickness": 1, "width": 3})
    figure.add_trace(trace)
    figure.update_layout(
        title=title,
        template="plotly_white",
        xaxis={
            "type": "log",
            "title": "Mult-Adds of one image",
            "tickvals": _TICKS,
            "ticktext": [millions(tick) for tick in _TICKS],
        },
        yaxis={"title": "Validation accuracy (proxy)", "tickformat": ".2f"},
        legend={"orientation": "h", "y": -0.18},
        margin={"l": 70, "r": 30, "t": 60, "b": 90},
    )
    return figure


def _label(record: TrialRecord) -> str:
    """Width and resolution of a baseline, as it stands beside its marker."""
    return f"{record.architecture.alpha:g}/{record.architecture.resolution}"


def _points(
    records: Sequence[TrialRecord], name: str, colour: str, symbol: str, size: int, opacity: float
) -> go.Scatter:
    return go.Scatter(
        x=[r.mult_adds for r in records],
        y=[r.accuracy for r in records],
        name=name,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": size, "opacity": opacity},
        # A list, not an array: arrays arrive in the browser without their custom data.
        customdata=[
            [
                r.architecture.name if r.is_baseline else f"trial {r.trial}",
                millions(r.mult_adds),
                millions(r.costs["params"]),
                f"{r.architecture.alpha:g}",
                r.architecture.resolution,
            ]
            for r in records
        ],
        hovertemplate=_HOVER,
    )
