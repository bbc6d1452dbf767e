"""Figure of accuracy against cost: trials, Pareto front, and references as lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mbsearch.analysis import pareto
from mbsearch.config.families import FAMILIES, Family
from mbsearch.cost.metrics import find_metric
from mbsearch.figures.style import (
    ACCURACY_TITLE,
    CONTINUOUS_COLOURS,
    FRONT,
    GREY,
    OPTION_COLOURS,
    OTHER,
    PROMOTED_TITLE,
    SEARCH,
    cost_axis,
    styled,
)
from mbsearch.study.latency_file import Quartiles
from mbsearch.study.records import State, TrialRecord, complete, metric_of, of_highest_fidelity

_GL_FROM = 400  # points; fewer are drawn as SVG, which is sharper and does not need WebGL
_ROOM_BELOW = 0.3  # as a share of the span of the accuracies in the axis's range
_HOVER = (
    "<b>%{customdata[1]}</b><br>accuracy %{y:.3f}<br>%{customdata[2]}<br>"
    "alpha %{customdata[3]}, resolution %{customdata[4]}<extra></extra>"
)


@dataclass(frozen=True, slots=True)
class _Axis:
    """The cost on the x axis: a cost in the records, or a measured latency."""

    metric: str
    latencies: Mapping[str, Quartiles] | None = None

    def of(self, record: TrialRecord) -> float:
        if self.latencies is None:
            return record.costs[self.metric]
        return self.latencies[record.fingerprint].median


def front_figure(
    records: Sequence[TrialRecord],
    title: str | None = None,
    *,
    metric: str | None = None,
    colour: str | None = None,
    latencies: Mapping[str, Quartiles] | None = None,
) -> go.Figure:
    """Return accuracy against cost (log axis), with reference lines for each resolution.

    If networks were promoted, the front has only those, and the others are drawn faintly.

    Args:
        records: of one study; those without an accuracy are not drawn.
        title: above the figure.
        metric: the cost's key in `TrialRecord.costs`, or the key of `latencies`; None for the
            study's own cost.
        colour: the key of `traits` that colours the trials; None for a single colour.
        latencies: measured latencies by fingerprint; networks without one are not drawn.
    """
    axis = _Axis(metric or metric_of(records), latencies)
    if latencies is not None:
        records = [r for r in records if r.fingerprint in latencies]
    done = of_highest_fidelity(records)
    figure = go.Figure()
    drawn_trials = {r.trial for r in done}
    short = [r for r in complete(list(records)) if r.trial not in drawn_trials]
    if short:
        trace = _points(short, axis, "Short training only", SEARCH, "circle", 6)
        figure.add_trace(trace.update(opacity=0.35))
    pruned = [r for r in records if r.state is State.PRUNED and r.evaluation is not None]
    if pruned:
        trace = _points(pruned, axis, "Pruned", SEARCH, "circle-open", 6)
        figure.add_trace(trace.update(opacity=0.6))
    _add_search(figure, [r for r in done if not r.is_baseline], axis, colour)
    _add_tied(figure, done, axis)
    drawn = [family for family in FAMILIES.values() if family.colour is not None]
    for family in drawn:
        _add_family(figure, [r for r in done if r.origin == family.key], axis, family)
    own_line = {family.key for family in drawn}
    others = [r for r in done if r.is_baseline and r.origin not in own_line]
    if others:
        figure.add_trace(_points(others, axis, "Other references", OTHER, "triangle-up", 10))
    _add_front(figure, done, axis)
    seen = [axis.of(r) for r in (*done, *short, *pruned)] or [10**6, 10**9]
    # Below the figure if there is a title, which a second row of the legend would overlap.
    below = {"yref": "container", "y": 0, "yanchor": "bottom"}
    return styled(
        figure,
        title=title,
        legend=below if title else {},
        xaxis=cost_axis(axis.metric, min(seen), max(seen)),
        yaxis=_accuracy_axis(done, [*short, *pruned], axis),
        margin={"l": 64, "r": 16, "t": 70 if title else 24, "b": 56},
        hovermode="closest",
        dragmode="pan",
    )


def _accuracy_axis(
    done: Sequence[TrialRecord], others: Sequence[TrialRecord], cost: _Axis
) -> dict[str, Any]:
    """Return an accuracy axis that starts just below the front and references.

    Otherwise pruned and failed trainings would take most of the height.
    """
    promoted = any(r.promotion is not None for r in done)
    title = PROMOTED_TITLE if promoted else ACCURACY_TITLE
    axis: dict[str, Any] = {"title": {"text": title, "standoff": 12}, "tickformat": ".2f"}
    front = pareto.pareto_front([r.accuracy for r in done], [cost.of(r) for r in done])
    accuracies = [done[i].accuracy for i in front] + [r.accuracy for r in done if r.is_baseline]
    if not accuracies:
        return axis
    span = max(accuracies) - min(accuracies)
    lowest = min(accuracies) - _ROOM_BELOW * span
    lower = [r.accuracy for r in (*done, *others) if r.accuracy < lowest]
    if span and lower and min(lower) < min(accuracies) - span:  # they would take half the height
        axis["autorangeoptions"] = {"clipmin": lowest}
        networks = "network lies" if len(lower) == 1 else "networks lie"
        axis["title"]["text"] += f"; {len(lower)} {networks} lower"
    return axis


def traits(record: TrialRecord) -> dict[str, Any]:
    """Return a trial's values for colouring: choices, width, resolution, number and time."""
    evaluation = record.evaluation
    return {
        "alpha": record.architecture.alpha,
        "resolution": record.architecture.resolution,
        **record.params,
        "trial": record.trial,
        "seconds": None if evaluation is None else evaluation.seconds,
    }


def budget_shapes(budget: float) -> list[dict[str, Any]]:
    """Return layout shapes that mark a budget on the cost axis and shade higher costs."""
    vertical = {"xref": "x", "yref": "paper", "y0": 0, "y1": 1, "layer": "above"}
    shade = {"fillcolor": "rgba(128, 128, 128, 0.13)", "line": {"width": 0}}
    line = {"line": {"color": FRONT, "width": 1.5, "dash": "dash"}}
    return [
        {"type": "rect", "x0": budget, "x1": 1e13, **shade, **vertical},
        {"type": "line", "x0": budget, "x1": budget, **line, **vertical},
    ]


def selection_annotations(
    selected: Sequence[TrialRecord],
    metric: str = "mult_adds",
    latencies: Mapping[str, Quartiles] | None = None,
) -> list[dict[str, Any]]:
    """Return layout annotations that point at the selected networks; see `front_figure`."""
    axis = _Axis(metric, latencies)
    return [
        {
            "x": math.log10(axis.of(record)),  # annotations on a log axis take the exponent
            "y": record.at_highest_fidelity.accuracy,
            "text": f"<b>{escape(record.label)}</b>",
            "showarrow": True,
            "arrowhead": 2,
            "arrowcolor": FRONT,
            "ax": 0,
            "ay": -44,
            "standoff": 7,
        }
        for record in selected
        if record.evaluation is not None and (latencies is None or record.fingerprint in latencies)
    ]


def _add_search(
    figure: go.Figure, searched: Sequence[TrialRecord], axis: _Axis, colour: str | None
) -> None:
    if colour is None:
        figure.add_trace(_points(searched, axis, "Search trials", SEARCH, "circle", 7))
        return
    values = [traits(r).get(colour) for r in searched]
    options = sorted(set(values), key=lambda v: (str(type(v)), v if v is not None else 0))
    if len(options) <= len(OPTION_COLOURS):
        for option, each in zip(options, OPTION_COLOURS, strict=False):
            members = [r for r, value in zip(searched, values, strict=True) if value == option]
            shown = f"{option:g}" if isinstance(option, float) else option
            name = f"{colour} {shown}" if option is not None else f"without {colour}"
            figure.add_trace(_points(members, axis, escape(name), each, "circle", 7))
        return
    having = [(r, v) for r, v in zip(searched, values, strict=True) if v is not None]
    if len(having) < len(searched):
        others = [r for r, value in zip(searched, values, strict=True) if value is None]
        name = escape(f"without {colour}")
        figure.add_trace(_points(others, axis, name, GREY, "circle", 7))
    trace = _points([r for r, _ in having], axis, "Search trials", SEARCH, "circle", 7)
    trace.marker.update(
        color=[value for _, value in having],
        colorscale=CONTINUOUS_COLOURS,
        showscale=True,
        colorbar={"title": {"text": colour}, "thickness": 12},
    )
    figure.add_trace(trace)


def _add_tied(figure: go.Figure, done: Sequence[TrialRecord], axis: _Axis) -> None:
    """Add rings around networks that are statistically tied with the front."""
    noise = done[0].accuracy_noise if done else None
    if noise is None:
        return
    accuracies, costs = [r.accuracy for r in done], [axis.of(r) for r in done]
    best = set(pareto.pareto_front(accuracies, costs).tolist())
    tied = [done[i] for i in pareto.ties(accuracies, costs, noise) if int(i) not in best]
    trace = _points(tied, axis, "Within noise of the front", FRONT, "circle-open", 11)
    figure.add_trace(trace.update(opacity=0.7, error_x={"visible": False}))


def _add_family(
    figure: go.Figure, members: Sequence[TrialRecord], axis: _Axis, family: Family
) -> None:
    """Add a family's lines over the width multiplier, one for each resolution."""
    colour = family.colour or OTHER
    for i, resolution in enumerate(sorted({r.architecture.resolution for r in members})):
        line = sorted((r for r in members if r.architecture.resolution == resolution), key=axis.of)
        trace = _points(line, axis, family.label, colour, family.symbol, 10)
        trace.update(
            mode="lines+markers+text",
            legendgroup=family.key,
            showlegend=i == 0,
            text=[f"{r.architecture.alpha:g}/{r.architecture.resolution}" for r in line],
            textposition=family.label_side,
            textfont={"size": 11},
            line={"color": colour, "width": 1.5, "dash": "dot"},
        )
        figure.add_trace(trace)


def _add_front(figure: go.Figure, done: Sequence[TrialRecord], axis: _Axis) -> None:
    indices = pareto.pareto_front([r.accuracy for r in done], [axis.of(r) for r in done])
    best = [done[i] for i in indices]
    trace = _points(best, axis, "Pareto front", FRONT, "circle", 9)
    trace.update(mode="lines+markers", line={"color": FRONT, "width": 2, "shape": "hv"})
    if best and best[0].accuracy_noise is not None:
        noise = best[0].accuracy_noise
        trace.update(error_y={"type": "constant", "value": noise, "thickness": 1, "width": 3})
    figure.add_trace(trace)


def _points(
    records: Sequence[TrialRecord], axis: _Axis, name: str, colour: str, symbol: str, size: int
) -> go.Scatter | go.Scattergl:
    kind = go.Scattergl if len(records) > _GL_FROM else go.Scatter
    metric = find_metric(axis.metric)
    return kind(
        x=np.array([axis.of(r) for r in records], dtype=float),
        error_x=_quartile_bars(records, axis, colour),
        y=np.array([r.accuracy for r in records], dtype=float),
        name=name,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": size},
        # Plotly sends an array of objects as a list, without checking each value. It would send an
        # array of numbers as bytes, and click events would lack it.
        customdata=np.array(
            [
                [
                    r.trial,
                    escape(r.label),
                    metric.amount(axis.of(r)),
                    f"{r.architecture.alpha:g}",
                    r.architecture.resolution,
                ]
                for r in records
            ],
            dtype=object,
        ),
        hovertemplate=_HOVER,
    )


def _quartile_bars(
    records: Sequence[TrialRecord], axis: _Axis, colour: str
) -> dict[str, Any] | None:
    """Return error bars with the quartiles of measured latencies."""
    if axis.latencies is None:
        return None
    times = [axis.latencies[r.fingerprint] for r in records]
    return {
        "array": [t.high - t.median for t in times],
        "arrayminus": [t.median - t.low for t in times],
        "color": colour,
        "thickness": 1,
        "width": 3,
    }
