"""Figures of the choices' effects: distributions, importances and parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mbsearch.analysis.choice_effects import Band, Effect, option_of, searched
from mbsearch.cost.metrics import find_metric, quantity
from mbsearch.figures.style import CONTINUOUS_COLOURS, FRONT, OPTION_COLOURS, styled
from mbsearch.study.records import TrialRecord, metric_of

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
_PARALLEL = 8  # choices that fit side by side


def distribution_figure(
    records: Sequence[TrialRecord], choice: str, bands: Sequence[Band]
) -> go.Figure:
    """Return each option's cumulative distribution of accuracy, one panel per cost band."""
    networks = searched(records)
    taken = [r for r in networks if choice in r.params]
    options = sorted({option_of(r, choice) for r in taken}, key=_rank)
    figure = make_subplots(
        rows=1,
        cols=len(bands),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        subplot_titles=[band.name for band in bands],
    )
    named: set[Any] = set()  # options in the legend
    for column, band in enumerate(bands, start=1):
        for i, option in enumerate(options):
            members = sorted(
                r.accuracy for r in taken if band.holds(r) and option_of(r, choice) == option
            )
            figure.add_trace(
                go.Scatter(
                    x=members,
                    y=[(j + 1) / len(members) for j in range(len(members))],
                    name=str(option),
                    legendgroup=str(option),
                    legendrank=i,
                    showlegend=bool(members) and option not in named,
                    mode="lines+markers",
                    marker={"size": 4},
                    line={
                        "color": OPTION_COLOURS[i % len(OPTION_COLOURS)],
                        "dash": _DASHES[i % len(_DASHES)],
                        "shape": "hv",
                    },
                    hovertemplate="%{y:.0%} of %{x:.3f} or less",
                ),
                row=1,
                col=column,
            )
            named.update([option] if members else [])
    styled(figure, hovermode="closest")
    figure.update_layout(legend={"y": 1.12, "title": {"text": f"{choice} "}}, margin={"t": 70})
    figure.update_xaxes(title_text="Validation accuracy (proxy)", tickformat=".2f", nticks=5)
    figure.update_yaxes(range=[0, 1.04])
    figure.update_yaxes(title_text="Share of networks", tickformat=".0%", col=1)
    return figure


def importance_figure(found: Sequence[Effect]) -> go.Figure:
    """Return the share of variance beyond cost that each choice explains, sorted."""
    shown = list(reversed(found))
    figure = go.Figure(
        go.Bar(
            x=[effect.importance for effect in shown],
            y=[effect.choice for effect in shown],
            orientation="h",
            marker={"color": FRONT},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    styled(figure, bargap=0.25)
    figure.update_xaxes(title_text="Variance beyond cost", tickformat=".0%", rangemode="tozero")
    return figure


def parallel_figure(records: Sequence[TrialRecord], found: Sequence[Effect]) -> go.Figure:
    """Return parallel coordinates of the networks: choices, then cost and accuracy."""
    networks = searched(records)
    dimensions: list[dict[str, Any]] = []
    for choice in [effect.choice for effect in found[:_PARALLEL]]:
        options = sorted({str(option_of(r, choice)) for r in networks}, key=_rank)
        index = {option: i for i, option in enumerate(options)}
        dimensions.append(
            {
                "label": choice,
                "values": [index[str(option_of(r, choice))] for r in networks],
                "tickvals": list(index.values()),
                "ticktext": ["none" if o == "None" else o for o in options],
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
    accuracies = [r.accuracy for r in networks]
    dimensions.append({"label": "Accuracy", "values": accuracies, "tickformat": ".2f"})
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": accuracies, "colorscale": CONTINUOUS_COLOURS},
            labelangle=-20,
        )
    )
    return styled(figure, margin={"l": 130, "r": 60, "t": 90, "b": 24})


def _rank(option: Any) -> tuple[int, float, str]:
    """Return a sort key that puts numbers first, by size, then text alphabetically."""
    try:
        return 0, float(option), ""
    except (TypeError, ValueError):
        return 1, 0.0, str(option)
