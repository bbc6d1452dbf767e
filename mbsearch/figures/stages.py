"""Drawing of a network with one row per stage: its blocks, shortcuts and share of cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mbsearch.cost import layer_costs
from mbsearch.cost.metrics import METRICS
from mbsearch.figures.style import FRONT, GREY, styled
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Block, Conv, Linear
from mbsearch.space.size import Size

BLOCK_COLOURS = {
    "standard": "#CC79A7",
    "separable": "#E69F00",
    "inverted_residual": "#D55E00",
    "bottleneck": "#009E73",
    "spatial_separable": "#56B4E9",
    "identity": GREY,
    "stem and head": "#0072B2",
}
_OTHER_BLOCK = "#332288"
_ENDS = "stem and head"
_GAP = 1.2  # between two blocks, in the unit of the widths: the root of a channel
_HALF = 0.2  # of a block's height; rows are 1 apart
_ARC = 0.24  # height of a shortcut above its block
_WORDS = {"expansion": "expand", "kernel": "kernel", "reduction": "reduce"}


@dataclass(frozen=True, slots=True)
class StageBlock:
    """A block to draw: output channels, largest number of channels inside, shortcut or not."""

    channels: int
    hidden: int
    skips: bool

    @property
    def width(self) -> float:
        """Width of the wider of the block's two boxes."""
        return math.sqrt(max(self.channels, self.hidden))


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stem, a stage or a head: its blocks, and its share of the network's cost.

    `layers` is the prefix of the names of its layers.
    """

    name: str
    layers: str
    kind: str
    text: str
    blocks: tuple[StageBlock, ...]
    mult_adds: float
    params: float

    @property
    def width(self) -> float:
        """Width of all blocks in a row."""
        return sum(block.width + _GAP for block in self.blocks)


def stage_rows(architecture: Architecture) -> list[StageRow]:
    """Return the rows of a network from stem to head; the shares of each cost sum to 1."""
    costs = layer_costs(architecture)
    total_mult_adds = sum(layer.mult_adds for layer in costs)
    total_params = sum(layer.params for layer in costs)
    rows = []
    for name, prefix, kind, blocks, details in _outline(architecture):
        own = [layer for layer in costs if layer.name.startswith(prefix)]
        channels = f"{blocks[-1].channels} ch" if blocks else ""
        repeats = f"{len(blocks)} x " if name not in ("stem", "head") and len(blocks) > 1 else ""
        size = Size(own[-1].out_shape.height, own[-1].out_shape.width)
        shape = f"{repeats}{channels}, {size} px" if name != "head" else f"{channels}"
        rows.append(
            StageRow(
                name,
                prefix,
                kind,
                f"<b>{name}</b> {shape}<br>{details}",
                blocks,
                sum(layer.mult_adds for layer in own) / total_mult_adds,
                sum(layer.params for layer in own) / total_params,
            )
        )
    return rows


def drawing(architecture: Architecture, beside: Sequence[Architecture] = ()) -> go.Figure:
    """Return a drawing with one row per stage, and bars of Mult-Adds and parameter shares.

    A box's width is the square root of its channels. The faint box behind it has the channels of
    the expansion. An arc is a shortcut. `beside` are networks drawn to the same scale.
    """
    rows = stage_rows(architecture)
    figure = make_subplots(
        rows=1, cols=3, column_widths=[0.66, 0.17, 0.17], shared_yaxes=True, horizontal_spacing=0.02
    )
    drawn: set[str] = set()
    for y, row in enumerate(rows):
        _add_blocks(figure, row, y, drawn)
    for column, metric in ((2, "mult_adds"), (3, "params")):
        _add_shares(figure, rows, metric, column)
    everything = [*rows, *(row for other in beside for row in stage_rows(other))]
    styled(figure, hovermode="closest", dragmode=False, bargap=0.45)
    figure.update_xaxes(visible=False, fixedrange=True, rangemode="tozero")
    figure.update_xaxes(range=[-0.5, max(row.width for row in everything)], col=1)
    for column, metric in ((2, "mult_adds"), (3, "params")):
        most = max(getattr(row, metric) for row in everything)
        title = METRICS[metric].column
        figure.update_xaxes(range=[0, 1.45 * most], title_text=title, visible=True, col=column)
        figure.update_xaxes(showgrid=False, showticklabels=False, col=column)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.7], fixedrange=True, showgrid=False)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=[row.text for row in rows], col=1)
    return figure.update_layout(margin={"l": 8, "r": 8, "t": 44, "b": 40})


def drawing_height(architecture: Architecture) -> int:
    """Return the height of the drawing in pixels."""
    return 90 + 46 * len(stage_rows(architecture))


def _outline(
    architecture: Architecture,
) -> Iterator[tuple[str, str, str, tuple[StageBlock, ...], str]]:
    """Yield each row's name, layer-name prefix, kind, blocks and details."""
    program = architecture.lower()
    stem = program.stem
    yield "stem", "stem", _ENDS, (_plain(stem.channels),), f"kernel {stem.kernel[0]}"
    for i, blocks in enumerate(program.stages):
        stage = architecture.stages[program.stage_indices[i]]
        details = [stage.block.replace("_", " ")]
        details += [
            f"{word} {value:g}"
            for field, word in _WORDS.items()
            if (value := getattr(stage, field, None)) is not None
        ]
        if getattr(stage, "squeeze_ratio", 0):
            details.append("squeeze-excite")
        drawn = tuple(map(_block, blocks))
        name = f"stage {program.stage_indices[i]}"
        yield name, f"stages.{i}.", stage.block, drawn, ", ".join(details)
    last = [layer for layer in program.head if isinstance(layer, Conv | Linear)]
    widths = [layer.channels if isinstance(layer, Conv) else layer.features for layer in last]
    yield "head", "head.", _ENDS, tuple(map(_plain, widths)), "and classifier"


def _plain(channels: int) -> StageBlock:
    return StageBlock(channels, channels, skips=False)


def _block(block: Block) -> StageBlock:
    convolutions = [layer for layer in block.body if isinstance(layer, Conv)]
    widths = [layer.channels for layer in convolutions]
    return StageBlock(widths[-1], max(widths), skips=block.shortcut is not None)


def _add_blocks(figure: go.Figure, row: StageRow, y: int, drawn: set[str]) -> None:
    """Add the boxes and shortcuts of a row; `drawn` has the names already in the legend."""
    colour = BLOCK_COLOURS.get(row.kind, _OTHER_BLOCK)
    hidden, boxes, arcs, centres, x = _Path(), _Path(), _Path(), [], 0.0
    for block in row.blocks:
        centre = x + block.width / 2
        if block.hidden > block.channels:
            hidden.add_box(centre, math.sqrt(block.hidden) / 2, y, _HALF)
        boxes.add_box(centre, math.sqrt(block.channels) / 2, y, _HALF)
        if block.skips:
            arcs.add_arc(centre, block.width / 2, y)
        centres.append(centre)
        x += block.width + _GAP
    name = row.kind.replace("_", " ")
    for path, title, fill, line in (
        (hidden, "expansion", _faint(GREY, 0.25), {"color": GREY, "width": 1, "dash": "dot"}),
        (boxes, name, _faint(colour, 0.5), {"color": colour, "width": 1.5}),
        (arcs, "shortcut", None, {"color": GREY, "width": 1.5}),
    ):
        if path.x:
            figure.add_trace(path.trace(title, fill, line, show=title not in drawn), row=1, col=1)
            drawn.add(title)
    figure.add_trace(
        go.Scatter(
            x=centres,
            y=[y] * len(centres),
            mode="markers",
            marker={"size": 24, "opacity": 0},
            showlegend=False,
            customdata=[[row.layers, b.channels, b.hidden] for b in row.blocks],
            hovertemplate=(
                f"{row.name}<br>%{{customdata[1]}} channels, at most %{{customdata[2]}} inside"
                f"<br>{row.mult_adds:.1%} of the Mult-Adds, {row.params:.1%} of the parameters"
                "<extra></extra>"
            ),
        ),
        row=1,
        col=1,
    )


class _Path:
    """Coordinates of the lines or boxes that one plotly trace draws."""

    def __init__(self) -> None:
        self.x: list[float | None] = []
        self.y: list[float | None] = []

    def add_box(self, centre: float, half_width: float, y: float, half_height: float) -> None:
        left, right = centre - half_width, centre + half_width
        self.x += [left, right, right, left, left, None]
        low, high = y - half_height, y + half_height
        self.y += [low, low, high, high, low, None]

    def add_arc(self, centre: float, half_width: float, y: float) -> None:
        angles = [math.pi * i / 12 for i in range(13)]
        self.x += [*(centre - half_width * math.cos(angle) for angle in angles), None]
        self.y += [*(y - _HALF - _ARC * math.sin(angle) for angle in angles), None]

    def trace(
        self, name: str, fill: str | None, line: dict[str, object], *, show: bool
    ) -> go.Scatter:
        return go.Scatter(
            x=self.x,
            y=self.y,
            mode="lines",
            fill=None if fill is None else "toself",
            fillcolor=fill,
            line=line,
            name=name,
            legendgroup=name,
            showlegend=show,
            hoverinfo="skip",
        )


def _add_shares(figure: go.Figure, rows: Sequence[StageRow], metric: str, column: int) -> None:
    shares = [getattr(row, metric) for row in rows]
    figure.add_trace(
        go.Bar(
            x=shares,
            y=list(range(len(rows))),
            orientation="h",
            marker={"color": FRONT},
            text=[f"{share:.0%}" if share >= 0.005 else "<1%" for share in shares],
            textposition="outside",
            cliponaxis=False,
            showlegend=False,
            customdata=[[row.layers, row.name] for row in rows],
            hovertemplate=f"%{{customdata[1]}}: %{{x:.1%}} of the {METRICS[metric].noun}"
            "<extra></extra>",
        ),
        row=1,
        col=column,
    )


def _faint(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"
