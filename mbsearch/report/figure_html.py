"""A plotly figure as HTML."""

from __future__ import annotations

import plotly.graph_objects as go

from mbsearch.figures.style import CONFIG


def figure_html(figure: go.Figure, identifier: str, height: int, *, wide: bool = False) -> str:
    """Return a figure for a page that has plotly; a wide one can be scrolled sideways."""
    html: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=identifier,
        default_height=f"{height}px",
        config=CONFIG,
    )
    return (
        f'<div class="scroll" tabindex="0"><div class="wide">{html}</div></div>' if wide else html
    )
