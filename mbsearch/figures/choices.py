"""Effects of the choices: strips by option, importances, parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import plotly.graph_objects as go

from mbsearch.analysis.choice_effects import (
    Effect,
    option_of,
    residual_accuracies,
    searched,
)
from mbsearch.analysis.option_text import option_text
from mbsearch.cost.metrics import find_metric, quantity
from mbsearch.figures.style import CONTINUOUS_COLOURS, FRONT, GREY, styled
from mbsearch.study.records import TrialRecord, metric_of, score_of_study

Option = TypeVar("Option")

_GL_FROM = 1000  # points; fewer are drawn as SVG
_AXIS_LABELS, _STRIP_LABELS = 9, 24  # at most
_GOLDEN = (math.sqrt(5) - 1) / 2
_PARALLEL = 8  # choices that fit side by side


def options_figure(records: Sequence[TrialRecord], effect: Effect) -> go.Figure:
    """Return a strip plot of accuracy at equal cost: one column of points per option of a choice.

    Each option has the mean of its networks with its 95 % interval. Options with too few networks
    for one have points only.
    """
    networks = searched(records)
    values = [100 * value for value in residual_accuracies(networks)]
    options = sorted(
        {option_of(r, effect.choice) for r in networks if effect.choice in r.params}, key=_rank
    )
    place = {option: i for i, option in enumerate(options)}
    taken = [(r, v) for r, v in zip(networks, values, strict=True) if effect.choice in r.params]
    trace = go.Scattergl if len(taken) > _GL_FROM else go.Scatter
    figure = go.Figure(
        trace(
            x=[place[option_of(r, effect.choice)] + _jitter(r.trial) for r, _ in taken],
            y=[value for _, value in taken],
            name="a network",
            mode="markers",
            marker={"color": GREY, "size": 6, "opacity": 0.45 if len(taken) <= _GL_FROM else 0.12},
            text=[r.label for r, _ in taken],
            hovertemplate="%{text}: %{y:+.1f} points<extra></extra>",
        )
    )
    means = [each for each in effect.options if each.option in place]
    figure.add_trace(
        go.Scatter(
            x=[place[each.option] for each in means],
            y=[100 * each.mean for each in means],
            name="mean, 95 % interval",
            mode="markers",
            marker={"color": FRONT, "size": 12, "symbol": "diamond"},
            error_y={
                "array": [100 * (each.high - each.mean) for each in means],
                "color": FRONT,
                "thickness": 3,
                "width": 10,
            },
            text=[f"{option_text(each.option)}, {each.networks} networks" for each in means],
            hovertemplate="%{text}: mean %{y:+.2f} points<extra></extra>",
        )
    )
    styled(figure, hovermode="closest")
    figure.add_hline(y=0, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_xaxes(
        title_text=effect.choice,
        tickvals=[place[option] for option in _spread(options, _STRIP_LABELS)],
        ticktext=[option_text(option) for option in _spread(options, _STRIP_LABELS)],
        range=[-0.6, len(options) - 0.4],
        showgrid=False,
    )
    title = f"{score_of_study(records).heading} at equal cost (points)"
    return figure.update_yaxes(title_text=title, tickformat="+.1f")


def importance_figure(found: Sequence[Effect]) -> go.Figure:
    """Return the share of variance that each choice explains beyond cost, with 95 % intervals."""
    shown = list(reversed(found))
    figure = go.Figure(
        go.Scatter(
            x=[effect.importance for effect in shown],
            y=[effect.choice for effect in shown],
            mode="markers",
            marker={"color": FRONT, "size": 10},
            error_x={
                "array": [effect.high - effect.importance for effect in shown],
                "arrayminus": [effect.importance - effect.low for effect in shown],
                "color": FRONT,
                "thickness": 2,
            },
            customdata=[[effect.low, effect.high] for effect in shown],
            hovertemplate=(
                "%{y}: %{x:.1%}, 95 % interval %{customdata[0]:.1%} to %{customdata[1]:.1%}"
                "<extra></extra>"
            ),
        )
    )
    styled(figure)
    figure.update_xaxes(
        title_text="Variance beyond cost, 95 % interval", tickformat="~%", rangemode="tozero"
    )
    return figure


def parallel_figure(records: Sequence[TrialRecord], found: Sequence[Effect]) -> go.Figure:
    """Return parallel coordinates of the networks: choices, then cost and accuracy."""
    networks = searched(records)
    dimensions: list[dict[str, Any]] = []
    for choice in [effect.choice for effect in found[:_PARALLEL]]:
        options = sorted({str(option_of(r, choice)) for r in networks}, key=_rank)
        index = {option: i for i, option in enumerate(options)}
        labelled = _spread(options)
        dimensions.append(
            {
                "label": choice,
                "values": [index[str(option_of(r, choice))] for r in networks],
                "tickvals": [index[option] for option in labelled],
                "ticktext": ["none" if o == "None" else o for o in labelled],
            }
        )
    costs, metric = [math.log10(r.cost) for r in networks], metric_of(networks)
    marks = sorted({min(costs, default=6), max(costs, default=9)})
    dimensions.append(
        {
            "label": find_metric(metric).column,
            "values": costs,
            "tickvals": marks,
            "ticktext": [quantity(metric, 10**mark) for mark in marks],
        }
    )
    accuracies, heading = [r.accuracy for r in networks], score_of_study(networks).heading
    dimensions.append({"label": heading, "values": accuracies, "tickformat": ".2f"})
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": accuracies,
                "colorscale": CONTINUOUS_COLOURS,
                "showscale": True,
                "colorbar": {
                    "title": {"text": heading, "side": "right"},
                    "tickformat": ".2f",
                    "thickness": 14,
                    "outlinewidth": 0,
                },
            },
            labelangle=-20,
            labelfont={"size": 12},
            tickfont={"size": 12},
        )
    )
    return styled(figure, margin={"l": 130, "r": 90, "t": 100, "b": 24})


def _jitter(trial: int) -> float:
    """Return a fixed offset of a point within its strip, spread evenly over trials."""
    return 0.5 * ((trial * _GOLDEN) % 1 - 0.5)


def _spread(options: Sequence[Option], most: int = _AXIS_LABELS) -> Sequence[Option]:
    """Return at most `most` options, evenly spread, so that labels do not overlap."""
    return options[:: math.ceil(len(options) / most)]


def _rank(option: Any) -> tuple[int, float, str]:
    """Return a sort key: numbers first, in ascending order, then text alphabetically."""
    try:
        return 0, float(option), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(option)
