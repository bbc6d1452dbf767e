"""Colours, layout and cost axes that all figures share.

Backgrounds are transparent and grids half-transparent grey, for light and dark pages.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from mbsearch.cost.metrics import find_metric, quantity, round_amounts

# Okabe and Ito's palette, which is distinguishable with any kind of colour vision. Its blue is
# lighter here, for contrast on dark pages.
SEARCH, FRONT, OTHER = "#8C8C8C", "#0B84CC", "#009E73"
# Options of a choice: distinct from each other and from the families, after Okabe, Ito and Tol.
OPTION_COLOURS = ("#56B4E9", "#CC79A7", "#009E73", "#882255", "#F0E442", "#332288", "#999933")
# From blue over grey to orange: visible on light and dark pages, and with any colour vision.
CONTINUOUS_COLOURS = [[0.0, "#2B7BBA"], [0.5, "#9A948C"], [1.0, "#E08A00"]]
GREY = "#8C8C8C"
_GRID = "rgba(128, 128, 128, 0.22)"
_LINE = "rgba(128, 128, 128, 0.6)"

CONFIG: Any = {
    "displaylogo": False,
    "responsive": True,
    # Plotly's default buttons include one that uploads the figure.
    "modeBarButtons": [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
}
"""Plotly's configuration of every plot in a browser."""

ACCURACY_TITLE = "Validation accuracy (proxy)"
PROMOTED_TITLE = "Validation accuracy (longer training)"


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
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        margin={"l": 56, "r": 16, "t": 24, "b": 48},
        modebar={"bgcolor": "rgba(0, 0, 0, 0)", "color": GREY, "activecolor": FRONT},
    )
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    figure.update_layout(**layout)
    return figure


def _ticks(metric: str, low: float, high: float) -> list[float]:
    """Return round values around an interval, or its ends if there are fewer than two."""
    for fine, reach in ((False, 2.5), (True, 1.25)):
        values = round_amounts(metric, fine=fine)
        if sum(low <= value <= high for value in values) > 1:
            return [value for value in values if low / reach <= value <= high * reach]
    return sorted({low, high}) if high > 1.02 * low else [low]


def cost_axis(metric: str, low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic cost axis with ticks at 1, 2, 5, 10, ... and units."""
    # Plotly labels the ticks between powers of ten with single digits.
    inside = _ticks(metric, low, high)
    margin = max(2.0, high / low) ** 0.06
    return {
        "type": "log",
        # Without a fixed range, which would reset the reader's zoom at every new trial.
        "autorangeoptions": {"clipmin": low / margin, "clipmax": high * margin},
        "title": {"text": find_metric(metric).title, "standoff": 12},
        "tickvals": inside,
        "ticktext": [quantity(metric, tick) for tick in inside],
        "tickangle": 0,
    }
