"""What all figures share: colours, quantities with their units, axes.

Backgrounds are transparent and grids half-transparent grey, so that a figure stands on a light page
as well as on a dark one.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from mbsearch.cost.metrics import find_metric, quantity, round_amounts

# Okabe and Ito's palette, told apart with any kind of colour vision; its blue a little lighter,
# so that it stands out from a dark page too.
SEARCH, FRONT, OTHER = "#8C8C8C", "#0B84CC", "#009E73"
# Options of a choice: apart from each other and from the families, after Okabe, Ito and Tol.
OPTION_COLOURS = ("#56B4E9", "#CC79A7", "#009E73", "#882255", "#F0E442", "#332288", "#999933")
# From blue over grey to orange: seen on light and dark pages, and with any kind of colour vision.
CONTINUOUS_COLOURS = [[0.0, "#2B7BBA"], [0.5, "#9A948C"], [1.0, "#E08A00"]]
GREY = "#8C8C8C"
_GRID = "rgba(128, 128, 128, 0.22)"
_LINE = "rgba(128, 128, 128, 0.6)"

CONFIG: Any = {
    "displaylogo": False,
    "responsive": True,
    # Plotly's own set has a button that offers to send the figure away.
    "modeBarButtons": [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
}
"""What every plot is shown with in a browser."""

ACCURACY_TITLE = "Validation accuracy (proxy)"
PROMOTED_TITLE = "Validation accuracy (longer training)"


def styled(figure: go.Figure, **layout: Any) -> go.Figure:
    """Give a figure the house's look; `layout` is what it sets itself."""
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
    """Round values, also a little outside; finer ones where those are too few, or both ends."""
    for fine, reach in ((False, 2.5), (True, 1.25)):
        values = round_amounts(metric, fine=fine)
        if sum(low <= value <= high for value in values) > 1:
            return [value for value in values if low / reach <= value <= high * reach]
    return sorted({low, high}) if high > 1.02 * low else [low]


def cost_axis(metric: str, low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis of one cost between two values, ticks at 1, 2, 5, 10, ... with units."""
    # Plotly's own labels between the decades are bare digits.
    inside = _ticks(metric, low, high)
    margin = max(2.0, high / low) ** 0.06
    return {
        "type": "log",
        # No range: a fixed one would undo the reader's zoom whenever a new trial moved it.
        "autorangeoptions": {"clipmin": low / margin, "clipmax": high * margin},
        "title": {"text": find_metric(metric).title, "standoff": 12},
        "tickvals": inside,
        "ticktext": [quantity(metric, tick) for tick in inside],
        "tickangle": 0,
    }
