"""What all figures share: colours, quantities with their units, axes.

Backgrounds are transparent and grids half-transparent grey, so that a figure stands on a light page
as well as on a dark one.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from mbsearch.cost import METRICS
from mbsearch.cost.units import quantity, round_amounts
from mbsearch.study.latency_file import MEASURED_US

# Okabe and Ito's palette, told apart with any kind of colour vision; its blue a little lighter,
# so that it stands out from a dark page too.
SEARCH, FRONT, OTHER = "#8C8C8C", "#0B84CC", "#009E73"
FAMILY_COLOURS = {
    "mobilenet_v1": "#E69F00",
    "mobilenet_v2": "#D55E00",
    "efficientnet_lite0": "#882255",
}
FAMILY_LABELS = {
    "mobilenet_v1": "MobileNet V1",
    "mobilenet_v2": "MobileNet V2",
    "efficientnet_lite0": "EfficientNet-Lite0, fine-tuned",
}
FAMILY_SYMBOLS = {"mobilenet_v1": "square", "mobilenet_v2": "diamond", "efficientnet_lite0": "star"}
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
METRIC_TITLES = {
    "mult_adds": "Mult-Adds of one image",
    "params": "Parameters",
    "weights": "Weights (no bias, no batch norm)",
    "peak_activation_bytes": "Peak activation memory, float32",
    "latency_us": "Latency of one image, predicted",
}


def metric_title(metric: str) -> str:
    """How an axis names a cost."""
    if metric in METRIC_TITLES:
        return METRIC_TITLES[metric]
    if metric.endswith(MEASURED_US):
        return f"Latency by {metric.removesuffix(MEASURED_US)}"
    return METRICS.get(metric, metric)


def short_title(metric: str) -> str:
    """A cost's title without what is said of it behind a comma or in brackets."""
    return metric_title(metric).split(" (")[0].split(",")[0].removesuffix(" of one image")


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
        "title": {"text": metric_title(metric), "standoff": 12},
        "tickvals": inside,
        "ticktext": [quantity(metric, tick) for tick in inside],
        "tickangle": 0,
    }
