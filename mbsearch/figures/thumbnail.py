"""A small drawing of a network, as SVG."""

from __future__ import annotations

import math

from mbsearch.figures.style import FRONT, GREY
from mbsearch.space.architecture import Architecture

_WIDTH, _HEIGHT, _GAP = 220, 44, 2  # pixels


def thumbnail(architecture: Architecture) -> str:
    """Return an SVG with a box for each block, stem first.

    Its width is the square root of the channels, its height that of the map, to scale.
    """
    stem = architecture.stem
    side = -(-architecture.resolution.height // stem.stride)
    boxes = [(architecture.scale(stem.channels), side, GREY)]
    for stage in architecture.stages:
        side = -(-side // stage.stride)
        boxes += [(architecture.scale(stage.channels), side, FRONT)] * stage.repeats
    widths = [math.sqrt(channels) for channels, _, _ in boxes]
    scale = (_WIDTH - _GAP * (len(boxes) - 1)) / sum(widths)
    tallest = math.sqrt(boxes[0][1])
    x, shapes = 0.0, []
    for width, (_, side, colour) in zip(widths, boxes, strict=True):
        height = _HEIGHT * math.sqrt(side) / tallest
        shapes.append(
            f'<rect x="{x:.1f}" y="{(_HEIGHT - height) / 2:.1f}" width="{width * scale:.1f}" '
            f'height="{height:.1f}" fill="{colour}"/>'
        )
        x += width * scale + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f"{''.join(shapes)}</svg>"
    )
