"""Where a network errs: confusion matrix, recall of each class, frequent confusions."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from mbsearch.analysis.class_errors import ClassErrors
from mbsearch.figures.style import FRONT, GREY, styled

CONFUSIONS_HEAD = ("True class", "Predicted as", "Images", "Reference")
"""Columns of the table of confusions."""

_MOST_CLASSES = 30  # with readable names


def confusion_figure(errors: ClassErrors) -> go.Figure:
    """Return the confusion matrix, as shares of the images of each true class.

    Of more than 30 classes it shows those of lowest recall.
    """
    names = {each.name: i for i, each in enumerate(errors.recalls()[:_MOST_CLASSES])}
    shown = [i for i, name in enumerate(errors.names) if name in names]
    images = errors.matrix.sum(axis=1, keepdims=True)
    shares = np.divide(errors.matrix, images, where=images > 0, out=np.zeros_like(errors.matrix))
    labels = [errors.names[i] for i in shown]
    part = shares[np.ix_(shown, shown)]
    figure = go.Figure(
        go.Heatmap(
            z=part,
            x=labels,
            y=labels,
            zmin=0,
            zmax=1,
            colorscale=[[0, "rgba(11, 132, 204, 0)"], [1, FRONT]],
            text=[[f"{value:.0%}" if value >= 0.005 else "" for value in row] for row in part],
            texttemplate="%{text}" if len(shown) <= 15 else None,
            hovertemplate="%{y}, predicted as %{x}: %{z:.1%}<extra></extra>",
            colorbar={"title": {"text": "Share of the class"}, "tickformat": ".0%"},
        )
    )
    styled(figure)
    figure.update_xaxes(title_text="Predicted class", showgrid=False, type="category")
    return figure.update_yaxes(
        title_text="True class", showgrid=False, autorange="reversed", type="category"
    )


def recall_figure(errors: ClassErrors, reference: str | None) -> go.Figure:
    """Return the recall of each class with its 95 % interval, the lowest first.

    Of more than 30 classes it shows those of lowest recall.

    Args:
        errors: of a network.
        reference: label of the network whose recalls are drawn beside it.
    """
    shown = errors.recalls()[:_MOST_CLASSES]
    names = [each.name for each in shown]
    figure = go.Figure()
    if reference is not None and errors.reference is not None:
        figure.add_trace(
            go.Scatter(
                x=[each.reference for each in shown],
                y=names,
                name=reference,
                mode="markers",
                marker={"color": GREY, "size": 10, "symbol": "diamond-open", "line": {"width": 2}},
                hovertemplate="%{y}: %{x:.3f}",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=[each.recall for each in shown],
            y=names,
            name="this network, 95 % interval",
            mode="markers",
            marker={"color": FRONT, "size": 9},
            error_x={
                "array": [each.high - each.recall for each in shown],
                "arrayminus": [each.recall - each.low for each in shown],
                "color": FRONT,
                "thickness": 2,
            },
            customdata=[[each.images] for each in shown],
            hovertemplate="%{y}: %{x:.3f} of %{customdata[0]} images",
        )
    )
    styled(figure, hovermode="closest", showlegend=True)
    figure.update_xaxes(title_text="Recall", tickformat=".2f")
    return figure.update_yaxes(autorange="reversed", type="category")


def _count(images: float) -> str:
    """Return a number of images; with a decimal only if it is a mean over seeds."""
    return f"{images:.0f}" if images == round(images) else f"{images:.1f}"


def error_rows(errors: ClassErrors) -> list[list[str]]:
    """Return the rows of the most frequent confusions; `CONFUSIONS_HEAD` has the columns."""
    return [
        [
            each.true,
            each.predicted,
            _count(each.images),
            "not known" if each.reference is None else _count(each.reference),
        ]
        for each in errors.confusions()
    ]
