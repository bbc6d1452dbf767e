"""A spiral, and what a ReLU in n dimensions leaves of it, as SVG (V2 paper, figure 1)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_SIDE, _MARGIN, _TITLE = 150, 8, 24  # pixels
_COLOURS = ("#4B2A9B", "#0B84CC", "#009E73", "#E69F00", "#D55E00")  # from the centre outwards


def relu_spirals(
    original: NDArray[np.float64], reconstructed: Mapping[int, NDArray[np.float64]]
) -> str:
    """Return an SVG with one panel for the spiral, and one for each number of dimensions.

    Arrays have the shape (2, points). A colour is one part of the spiral, the same in each panel.
    """
    panels = {"input": original} | {f"n = {n}": back for n, back in reconstructed.items()}
    width, height = _SIDE * len(panels), _SIDE + _TITLE
    shapes = [f'<rect width="{width}" height="{height}" fill="#FFFFFF"/>']
    for i, (title, points) in enumerate(panels.items()):
        shapes.append(
            f'<text x="{(i + 0.5) * _SIDE:g}" y="17" text-anchor="middle" '
            f'font-family="sans-serif" font-size="14" fill="#222222">{title}</text>'
        )
        shapes += _lines(points, x=(i + 0.5) * _SIDE, y=_TITLE + 0.5 * _SIDE)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f"{''.join(shapes)}</svg>\n"
    )


def _lines(points: NDArray[np.float64], x: float, y: float) -> list[str]:
    """Return a line for each colour, around a centre; the farthest point is at the margin."""
    scaled = points / np.abs(points).max() * (_SIDE / 2 - _MARGIN)
    corners = [f"{x + a:.1f},{y - b:.1f}" for a, b in scaled.T]
    length = -(-len(corners) // len(_COLOURS))
    return [
        f'<polyline points="{" ".join(corners[i * length : (i + 1) * length + 1])}" fill="none" '
        f'stroke="{colour}" stroke-width="2"/>'
        for i, colour in enumerate(_COLOURS)
    ]
