"""Figure of accuracy against cost: trials, Pareto front, and references as lines."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mbsearch.analysis import pareto
from mbsearch.config.families import FAMILIES, Family
from mbsearch.cost.metrics import find_metric
from mbsearch.figures.style import (
    CONTINUOUS_COLOURS,
    FRONT,
    GREY,
    OPTION_COLOURS,
    OTHER,
    SEARCH,
    cost_axis,
    styled,
    validation_title,
)
from mbsearch.study.latency_file import Quartiles
from mbsearch.study.records import (
    State,
    TrialRecord,
    complete,
    metric_of,
    of_highest_fidelity,
    score_of_study,
)

_GL_FROM = 400  # points; fewer are drawn as SVG, which is sharper and does not need WebGL
_LEGEND = ("Pareto front", *(f.label for f in FAMILIES.values()), "Other references")
"""Names of a legend's first entries, the most important first; others follow as drawn."""
_MANY_OPACITY = 0.45  # of points drawn by WebGL, which hide each other
_ROOM_BELOW, _ROOM_ABOVE = 0.3, 0.2  # as shares of the span of the accuracies of the axis
_HOVER = (
    "<b>%{{customdata[1]}}</b><br>{} %{{y:.3f}}<br>%{{customdata[2]}}<br>"
    "alpha %{{customdata[3]}}, resolution %{{customdata[4]}}<extra></extra>"
)


@dataclass(frozen=True, slots=True)
class _Axis:
    """The cost on the x axis: a cost in the records, or a measured latency.

    With `hover`, points have a text under the pointer.
    """

    metric: str
    latencies: Mapping[str, Quartiles] | None = None
    hover: bool = True

    def of(self, record: TrialRecord) -> float:
        if self.latencies is None:
            return record.costs[self.metric]
        return self.latencies[record.fingerprint].median

    def has(self, record: TrialRecord) -> bool:
        return self.latencies is None or record.fingerprint in self.latencies


def front_figure(
    records: Sequence[TrialRecord],
    *,
    metric: str | None = None,
    colour: str | None = None,
    latencies: Mapping[str, Quartiles] | None = None,
    hover: bool = True,
) -> go.Figure:
    """Return accuracy against cost (log axis), with reference lines for each resolution.

    If networks were promoted, the front has only those, and the others are drawn faintly.

    Args:
        records: of one study; those without an accuracy are not drawn.
        metric: the cost's key in `TrialRecord.costs`, or the key of `latencies`; None for the
            study's own cost.
        colour: the key of `traits` that colours the trials; None for a single colour.
        latencies: measured latencies by fingerprint; networks without one are not drawn.
        hover: show a text under the pointer; without it, the figure of many trials has a third of
            the bytes.
    """
    axis = _Axis(metric or metric_of(records), latencies, hover)
    if latencies is not None:
        records = [r for r in records if r.fingerprint in latencies]
    done = of_highest_fidelity(records)
    accuracies = np.array([r.accuracy for r in done], float)
    costs = np.array([axis.of(r) for r in done], float)
    on_front = [done[i] for i in pareto.pareto_front(accuracies, costs)]
    figure = go.Figure()
    others = _add_other_trials(figure, records, done, axis)
    scale = _Colours.of(colour, done)
    _add_search(figure, [r for r in done if not r.is_baseline], axis, scale)
    noise = done[0].accuracy_noise if done else None
    if noise is not None:
        near = [done[i] for i in pareto.ties(accuracies, costs, noise)]
        _add_tied(figure, near, on_front, axis)
    _add_front(figure, on_front, axis, scale)
    _add_references(figure, [r for r in done if r.is_baseline], axis, {r.trial for r in on_front})
    for trace in figure.data:
        known = trace.name in _LEGEND
        trace.legendrank = _LEGEND.index(trace.name) if known else len(_LEGEND)
    seen = np.append(costs, [axis.of(r) for r in others])
    low, high = (seen.min(), seen.max()) if seen.size else (10**6, 10**9)
    return styled(
        figure,
        xaxis=cost_axis(axis.metric, float(low), float(high)),
        yaxis=_accuracy_axis(done, others, on_front),
        margin={"l": 64, "r": 16, "t": 24, "b": 56},
        hovermode="closest",
        dragmode="pan",
        meta={"unit": find_metric(axis.metric).unit.slider_label},
        coloraxis={
            "colorscale": CONTINUOUS_COLOURS,
            "colorbar": {"title": {"text": escape(colour or "")}, "thickness": 12},
        },
    )


def _add_other_trials(
    figure: go.Figure, records: Sequence[TrialRecord], done: Sequence[TrialRecord], axis: _Axis
) -> list[TrialRecord]:
    """Add the trained networks that are not in `done`, faintly; return them."""
    drawn = {r.trial for r in done}
    short = [r for r in complete(list(records)) if r.trial not in drawn]
    if short:
        trace = _points(short, axis, "Short training only", SEARCH, "circle", 6)
        figure.add_trace(trace.update(opacity=0.35))
    pruned = [r for r in records if r.state is State.PRUNED and r.evaluation is not None]
    if pruned:
        trace = _points(pruned, axis, "Pruned", SEARCH, "circle-open", 6)
        figure.add_trace(trace.update(opacity=0.6))
    return [*short, *pruned]


def _accuracy_axis(
    done: Sequence[TrialRecord], others: Sequence[TrialRecord], on_front: Sequence[TrialRecord]
) -> dict[str, Any]:
    """Return an accuracy axis that starts just below the front and references.

    Otherwise pruned and failed trainings would take most of the height.
    """
    promoted = any(r.promotion is not None for r in done)
    title = validation_title(score_of_study(done), promoted=promoted)
    axis: dict[str, Any] = {"title": {"text": title, "standoff": 12}, "tickformat": ".2f"}
    accuracies = [r.accuracy for r in (*on_front, *(r for r in done if r.is_baseline))]
    if not accuracies:
        return axis
    span = max(accuracies) - min(accuracies)
    axis["autorangeoptions"] = {"include": max(accuracies) + _ROOM_ABOVE * span}
    lowest = min(accuracies) - _ROOM_BELOW * span
    lower = [r.accuracy for r in (*done, *others) if r.accuracy < lowest]
    if span and lower and min(lower) < min(accuracies) - span:  # they would take half the height
        axis["autorangeoptions"]["clipmin"] = lowest
        networks = "network lies" if len(lower) == 1 else "networks lie"
        axis["title"]["text"] += f"; {len(lower)} {networks} lower"
    return axis


def trait_names(records: Sequence[TrialRecord]) -> list[str]:
    """Return the keys of the `traits` of any of these networks."""
    one_each = {tuple(r.params): r for r in records}  # most have the same choices
    return list(dict.fromkeys(chain.from_iterable(map(traits, one_each.values()))))


def traits(record: TrialRecord) -> dict[str, Any]:
    """Return the values by which a trial can be coloured, such as its choices and width."""
    evaluation = record.evaluation
    return {
        "alpha": record.architecture.alpha,
        "resolution": record.architecture.resolution.plain,
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
    answer: TrialRecord | None = None,
    *,
    metric: str = "mult_adds",
    latencies: Mapping[str, Quartiles] | None = None,
    beyond: float = math.inf,
) -> list[dict[str, Any]]:
    """Return annotations that point to selected networks, and a frame around the answer.

    Args:
        selected: by the reader.
        answer: the network to use, if there is one.
        metric: as in `front_figure`.
        latencies: as in `front_figure`.
        beyond: the cost from which texts extend to the left.
    """
    axis = _Axis(metric, latencies)
    named = [(r, r.label, -44) for r in selected if answer is None or r.trial != answer.trial]
    frames = []
    if answer is not None and axis.has(answer):
        named.append((answer, f"use {answer.label}", -72))
        frame = {"width": 14, "height": 14, "bordercolor": FRONT, "borderwidth": 2}
        at = {"x": math.log10(axis.of(answer)), "y": answer.at_highest_fidelity.accuracy}
        frames.append({"text": " ", "showarrow": False, **at, **frame})
    return frames + [
        {
            "x": math.log10(axis.of(record)),  # annotations on a log axis take the exponent
            "y": record.at_highest_fidelity.accuracy,
            "text": f"<b>{escape(text)}</b>",
            "showarrow": True,
            "arrowhead": 2,
            "arrowcolor": FRONT,
            "ax": 0,
            "ay": ay,
            "standoff": 9,
            "xanchor": "right" if axis.of(record) > beyond else "left",
        }
        for record, text, ay in named
        if record.evaluation is not None and axis.has(record)
    ]


@dataclass(frozen=True, slots=True)
class _Colours:
    """The fill colour of each searched network, by the network's value of a trait.

    A few values have a colour each in `options`; many share a continuous scale, `options` is None.
    """

    trait: str
    options: Mapping[Any, str] | None

    @staticmethod
    def of(trait: str | None, records: Sequence[TrialRecord]) -> _Colours | None:
        """Return the colours for a trait; None if `trait` is None."""
        if trait is None:
            return None
        values = {traits(r).get(trait) for r in records if not r.is_baseline}
        ordered = sorted(values, key=lambda v: (str(type(v)), v if v is not None else 0))
        few = len(ordered) <= len(OPTION_COLOURS)
        options = dict(zip(ordered, OPTION_COLOURS, strict=False)) if few else None
        return _Colours(trait, options)

    def value(self, record: TrialRecord) -> Any:
        """Return a searched network's value of the trait."""
        return traits(record).get(self.trait)

    def fill(self, records: Sequence[TrialRecord]) -> dict[str, Any]:
        """Return marker properties that colour networks by value; grey if a value is missing."""
        values = [self.value(r) for r in records]
        if self.options is not None:
            return {"color": [self.options[value] for value in values]}
        if None in values:
            return {"color": GREY}
        return {"color": values, "coloraxis": "coloraxis"}

    def name(self, value: Any) -> str:
        """Name of an option in a legend."""
        if value is None:
            return escape(f"without {self.trait}")
        return escape(
            f"{self.trait} {value:g}" if isinstance(value, float) else f"{self.trait} {value}"
        )


def _add_search(
    figure: go.Figure, searched: Sequence[TrialRecord], axis: _Axis, scale: _Colours | None
) -> None:
    if scale is None:
        figure.add_trace(_points(searched, axis, "Search trials", SEARCH, "circle", 7))
        return
    values = [scale.value(r) for r in searched]
    if scale.options is not None:
        for option, colour in scale.options.items():
            members = [r for r, value in zip(searched, values, strict=True) if value == option]
            figure.add_trace(_points(members, axis, scale.name(option), colour, "circle", 7))
        return
    others = [r for r, value in zip(searched, values, strict=True) if value is None]
    if others:
        figure.add_trace(_points(others, axis, scale.name(None), GREY, "circle", 7))
    having = [r for r, value in zip(searched, values, strict=True) if value is not None]
    trace = _points(having, axis, "Search trials", SEARCH, "circle", 7)
    trace.marker.update(scale.fill(having))
    figure.add_trace(trace)


def _add_tied(
    figure: go.Figure, near: Sequence[TrialRecord], on_front: Sequence[TrialRecord], axis: _Axis
) -> None:
    """Add rings around networks that are statistically tied with the front."""
    best = {r.trial for r in on_front}
    tied = [r for r in near if r.trial not in best]
    trace = _points(tied, axis, "Within noise of the front", FRONT, "circle-open", 11)
    figure.add_trace(trace.update(opacity=0.7, error_x={"visible": False}))


def _add_references(
    figure: go.Figure, references: Sequence[TrialRecord], axis: _Axis, on_front: Collection[int]
) -> None:
    """Add lines for the families, and points for the other references."""
    for family in FAMILIES.values():
        members = [r for r in references if r.origin == family.key]
        _add_family(figure, members, axis, family, on_front)
    others = [r for r in references if r.origin not in FAMILIES]
    if others:
        figure.add_trace(_points(others, axis, "Other references", OTHER, "triangle-down", 10))


def _add_family(
    figure: go.Figure,
    members: Sequence[TrialRecord],
    axis: _Axis,
    family: Family,
    on_front: Collection[int],
) -> None:
    """Add a line for each resolution of a family, and outline the points on the front."""
    for i, resolution in enumerate(sorted({r.architecture.resolution for r in members})):
        line = sorted((r for r in members if r.architecture.resolution == resolution), key=axis.of)
        trace = _points(line, axis, family.label, family.colour, family.symbol, 10)
        trace.update(
            mode="lines+markers+text",
            legendgroup=family.key,
            showlegend=i == 0,
            text=[
                f"{family.short} {r.architecture.alpha:g}/{r.architecture.resolution}" for r in line
            ],
            textposition=family.label_side,
            textfont={"size": 11},
            marker_line={
                "color": FRONT,
                "width": [2 if r.trial in on_front else 0 for r in line],
            },
            line={"color": family.colour, "width": 1.5, "dash": "dot"},
        )
        figure.add_trace(trace)


def _add_front(
    figure: go.Figure, best: Sequence[TrialRecord], axis: _Axis, scale: _Colours | None
) -> None:
    """Add the front as a line; if a trait colours its points, outline them.

    References have the marker of their family above it.
    """
    trace = _points(best, axis, "Pareto front", FRONT, "circle", 9)
    trace.update(
        mode="lines+markers",
        line={"color": FRONT, "width": 2, "shape": "hv"},
        legendgroup="front",
    )
    figure.add_trace(trace)
    if scale is None:
        return
    for missing in (False, True):  # of the value
        members = [r for r in best if not r.is_baseline and (scale.value(r) is None) == missing]
        if members:
            trace = _points(members, axis, "Pareto front", FRONT, "circle", 11)
            trace.marker.update(scale.fill(members), line={"color": FRONT, "width": 2.5})
            figure.add_trace(trace.update(showlegend=False, legendgroup="front"))


def _points(
    records: Sequence[TrialRecord], axis: _Axis, name: str, colour: str, symbol: str, size: int
) -> go.Scatter | go.Scattergl:
    kind = go.Scattergl if len(records) > _GL_FROM else go.Scatter
    hover = {"hovertemplate": _HOVER.format(score_of_study(records).noun)}
    texts = hover if axis.hover else {"hoverinfo": "none"}
    return kind(
        x=np.array([axis.of(r) for r in records], dtype=float),
        error_x=_quartile_bars(records, axis, colour),
        y=np.array([r.accuracy for r in records], dtype=float),
        name=name,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": size},
        opacity=_MANY_OPACITY if kind is go.Scattergl else 1,
        # Plotly sends an array of objects as a list, without checking each value. It would send an
        # array of numbers as bytes, and click events would lack it.
        customdata=np.array([_point_data(r, axis) for r in records], dtype=object),
        **texts,
    )


def _point_data(record: TrialRecord, axis: _Axis) -> list[Any]:
    """Return a point's trial, and with `axis.hover` the values in `_HOVER`."""
    if not axis.hover:
        return [record.trial]
    architecture = record.architecture
    amount = find_metric(axis.metric).amount(axis.of(record))
    size = f"{architecture.alpha:g}", str(architecture.resolution)
    return [record.trial, escape(record.label), amount, *size]


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
