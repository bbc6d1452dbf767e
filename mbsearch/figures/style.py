"""Colours, layout and cost axes that all figures share.

Backgrounds are transparent and grids half-transparent grey, for light and dark pages.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from mbsearch.config.scores import Score
from mbsearch.cost.metrics import find_metric, quantity, round_amounts
from mbsearch.cost.units import BYTES

# Okabe and Ito's palette, which is distinguishable with any kind of colour vision. Its blue is
# lighter here, for contrast on dark pages.
SEARCH, FRONT, OTHER = "#8C8C8C", "#0B84CC", "#009E73"
# Options of a choice: distinct from each other and from the families, after Okabe, Ito and Tol.
OPTION_COLOURS = ("#56B4E9", "#CC79A7", "#F0E442", "#5B4BC4", "#999933", "#9EE5C8")
# From violet to pink: no family has such a colour; visible on light and dark pages.
CONTINUOUS_COLOURS = [[0.0, "#4B2A9B"], [0.5, "#B05CC6"], [1.0, "#F5AECB"]]
GREY = "#8C8C8C"
_GRID = "rgba(128, 128, 128, 0.22)"
_LINE = "rgba(128, 128, 128, 0.6)"

CONFIG: Any = {
    "displaylogo": False,
    "responsive": True,
    # Plotly's default buttons include one that uploads the figure.
    "modeBarButtons": [
        ["toImage"],
        ["zoomIn2d", "zoomOut2d", "zoom2d", "pan2d", "resetScale2d"],
    ],
}
"""Plotly's configuration of every plot in a browser."""
BEHAVIOUR = Path(__file__).with_name("plots.js").read_text(encoding="utf-8")
"""JavaScript of every page with plots: ticks at each zoom, labels, touch."""

INT8_TITLE = "Validation accuracy as int8 (finals)"


def validation_title(score: Score, *, promoted: bool = False) -> str:
    """Return the title of an axis with values on validation images."""
    return f"Validation {score.noun} ({'longer training' if promoted else 'proxy'})"


def styled(figure: go.Figure, **layout: Any) -> go.Figure:
    """Apply the common layout and `layout` to a figure, and return the figure."""
    axis = {
        "gridcolor": _GRID,
        "linecolor": _LINE,
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 12},
    }
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"family": "system-ui, -apple-system, 'Segoe UI', sans-serif", "size": 13},
        hoverlabel={"bgcolor": "#222222", "font": {"color": "#FFFFFF"}, "align": "left"},
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
        },
        margin={"l": 56, "r": 16, "t": 24, "b": 48},
        modebar={"bgcolor": "rgba(0, 0, 0, 0)", "color": GREY, "activecolor": FRONT},
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(**layout)
    return figure


def _ticks(metric: str, low: float, high: float) -> list[float]:
    """Return round tick values in an interval, at least three if possible.

    In a browser, `BEHAVIOUR` adapts them to the zoom and to the width.
    """
    values = [v for v in round_amounts(metric) if low <= v <= high]
    if len(values) > 2:
        return values
    unit = 2**20 if find_metric(metric).unit is BYTES else 1
    power = math.ceil(math.log10((high - low) / unit))
    for exponent in range(power, power - 3, -1):
        for factor in (5, 2, 1):
            step = factor * 10.0**exponent * unit
            values = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
            if len(values) > 2:
                return values
    return [low, high]


def cost_axis(metric: str, low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic cost axis with ticks at 1, 2, 5, 10, ... and units."""
    # Plotly labels the ticks between powers of ten with single digits.
    margin = max(2.0, high / low) ** 0.06
    inside = _ticks(metric, low / margin, high * margin**2)
    return {
        "type": "log",
        # Without a fixed range, which would reset the reader's zoom at every new trial.
        # There is more room on the right, for labels.
        "autorangeoptions": {
            "clipmin": low / margin,
            "clipmax": high * margin**2,
            "include": high * margin**1.7,
        },
        "title": {"text": find_metric(metric).title, "standoff": 12},
        "tickvals": inside,
        "ticktext": [quantity(metric, tick) for tick in inside],
        "tickangle": 0,
    }
