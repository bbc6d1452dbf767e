"""Figures of one network: drawing to scale, costs of its layers, learning curves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mbsearch.config.families import COMPETITORS, FAMILIES
from mbsearch.cost import LayerCost, layer_costs
from mbsearch.cost.metrics import METRICS, quantity
from mbsearch.figures.style import ACCURACY_TITLE, FRONT, GREY, PROMOTED_TITLE, styled
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import TrialRecord

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
_KIND_COLOURS = {
    "pointwise": "#0072B2",
    "depthwise": "#E69F00",
    "convolution": "#CC79A7",
    "squeeze-excite": "#009E73",
    "linear": "#D55E00",
}
# Gaps between the boxes of a drawing, as shares of its width; labels are between the stages.
_STAGE_GAP, _BLOCK_GAP = 0.085, 0.003


@dataclass(frozen=True, slots=True)
class _Part:
    """A stem, stage or head in the drawing: boxes of equal size, and the text below."""

    name: str
    block: str
    channels: int
    side: int
    repeats: int
    text: tuple[str, ...]


def drawing(architecture: Architecture) -> go.Figure:
    """Return a drawing to scale; a box's width is the channels, its height the map's side.

    Both are to scale. A stage has one box for each block, coloured by type.
    """
    parts = list(_parts(architecture))
    total = sum(part.channels * part.repeats for part in parts)
    figure = go.Figure()
    x, seen, annotations = 0.0, set(), []
    for part in parts:
        start = x
        for _ in range(part.repeats):
            figure.add_trace(_box(part, x, showlegend=part.block not in seen))
            seen.add(part.block)
            x += part.channels + _BLOCK_GAP * total
        middle = (start + x - _BLOCK_GAP * total) / 2
        annotations.append(_below(middle, part))
        x += _STAGE_GAP * total
    styled(figure, annotations=annotations, hovermode="closest", dragmode=False)
    pad = 0.03 * total
    figure.update_xaxes(visible=False, range=[-pad, x - _STAGE_GAP * total + pad], fixedrange=True)
    figure.update_yaxes(visible=False, fixedrange=True)
    return figure.update_layout(margin={"l": 8, "r": 8, "t": 40, "b": 100})


def layer_bars(architecture: Architecture) -> go.Figure:
    """Return bars of each layer's Mult-Adds, parameters and memory, in execution order."""
    rows = layer_costs(architecture)
    panels = {
        "mult_adds": METRICS["mult_adds"].column,
        "params": METRICS["params"].column,
        "activation_bytes": "Memory (MiB)",
    }
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for i, (metric, title) in enumerate(panels.items(), start=1):
        for kind, colour in _KIND_COLOURS.items():
            members = [row for row in rows if _kind(row) == kind]
            if not members:
                continue
            values = [getattr(row, metric) for row in members]
            figure.add_trace(
                go.Bar(
                    x=[row.name for row in members],
                    y=[v / 2**20 for v in values] if i == 3 else values,
                    name=kind,
                    legendgroup=kind,
                    showlegend=i == 1,
                    marker={"color": colour, "line": {"width": 0}},
                    customdata=[
                        [row.kind, quantity(metric, v)] for row, v in _pairs(members, values)
                    ],
                    hovertemplate="%{x}<br>%{customdata[0]}<br><b>%{customdata[1]}</b><extra></extra>",
                ),
                row=i,
                col=1,
            )
        figure.update_yaxes(title_text=title, row=i, col=1)
    styled(figure, bargap=0.15, hovermode="closest")
    figure.update_xaxes(
        categoryorder="array", categoryarray=[row.name for row in rows], showticklabels=False
    )
    figure.update_xaxes(title_text="Layers, first to last", row=3, col=1)
    figure.update_yaxes(nticks=4, rangemode="tozero")
    return figure


def curve_figure(shown: Sequence[TrialRecord], records: Sequence[TrialRecord]) -> go.Figure:
    """Return learning curves of networks and of MobileNets with the most similar cost.

    They are of the longer training if each network has one, else of the short training.
    """
    raw = {record.trial: record for record in records}
    drawn = [raw.get(record.trial, record) for record in shown]
    near = [nearest(records, family, shown[0].cost) for family in COMPETITORS]
    known = {record.trial for record in shown}
    references = [
        reference for reference in near if reference is not None and reference.trial not in known
    ]
    promoted = all(record.promotion is not None for record in (*drawn, *references))
    if promoted:
        drawn, references = (
            [record.at_highest_fidelity for record in each] for each in (drawn, references)
        )
    figure = go.Figure()
    for reference in references:
        name = f"{reference.label}, {quantity(reference.metric, reference.cost)}"
        figure.add_trace(_curve(reference, name, FAMILIES[reference.origin].colour or GREY, "dot"))
    for record, colour in zip(drawn, (FRONT, "#CC79A7"), strict=False):
        name = f"{escape(record.label)}, {quantity(record.metric, record.cost)}"
        figure.add_trace(_curve(record, name, colour, "solid"))
    epochs = max((len(r.evaluation.curve) for r in drawn if r.evaluation), default=1)
    styled(figure, hovermode="x unified")
    figure.update_xaxes(title_text="Epoch", dtick=max(1, math.ceil(epochs / 12)))
    title = PROMOTED_TITLE if promoted else ACCURACY_TITLE
    figure.update_yaxes(title_text=title, tickformat=".2f")
    return figure


def nearest(records: Sequence[TrialRecord], family: str, cost: int) -> TrialRecord | None:
    """Return the family's baseline with the nearest log cost; None without one."""
    members = [r for r in records if r.origin == family and r.evaluation is not None]
    return min(members, key=lambda r: abs(math.log(r.cost / cost)), default=None)


def _parts(architecture: Architecture) -> Iterator[_Part]:
    ends = "stem and head"
    stem = architecture.stem
    side = -(-architecture.resolution // stem.stride)
    width = architecture.scale(stem.channels)
    yield _Part("stem", ends, width, side, 1, ("stem", f"kernel {stem.kernel}"))
    for i, stage in enumerate(architecture.stages):
        side = -(-side // stage.stride)
        width = architecture.scale(stage.channels)
        text = [f"stage {i}"]
        for field, word in (("expansion", "expand"), ("kernel", "kernel"), ("reduction", "reduce")):
            value = getattr(stage, field, None)
            if value is not None:
                text.append(f"{word} {value:g}")
        if getattr(stage, "squeeze_ratio", 0):
            text.append(f"squeeze {stage.squeeze_ratio:g}")  # type: ignore[union-attr]
        yield _Part(f"stage {i}", stage.block, width, side, stage.repeats, tuple(text))
    for layer in architecture.lower().head:
        width = getattr(layer, "channels", 0)
        if width:
            yield _Part("head", ends, width, side, 1, ("head", "1x1"))


def _box(part: _Part, x: float, *, showlegend: bool) -> go.Scatter:
    colour, half = BLOCK_COLOURS.get(part.block, _OTHER_BLOCK), part.side / 2
    right = x + part.channels
    return go.Scatter(
        x=[x, right, right, x, x],
        y=[-half, -half, half, half, -half],
        mode="lines",
        fill="toself",
        line={"color": colour, "width": 1.5},
        fillcolor=_faint(colour),
        name=part.block.replace("_", " "),
        legendgroup=part.block,
        showlegend=showlegend,
        hoveron="fills",
        text=f"{part.name}: {part.channels} channels, {part.side} x {part.side} px",
        hoverinfo="text",
    )


def _below(x: float, part: _Part) -> dict[str, object]:
    shape = f"{part.channels} ch" if part.repeats == 1 else f"{part.repeats} x {part.channels} ch"
    lines = [f"<b>{part.text[0]}</b>", shape, f"{part.side} px", *part.text[1:]]
    return {
        "x": x,
        "y": 0,
        "yref": "paper",
        "yanchor": "top",
        "showarrow": False,
        "text": "<br>".join(lines),
        "font": {"size": 11},
    }


def _curve(record: TrialRecord, name: str, colour: str, dash: str) -> go.Scatter:
    curve = record.evaluation.curve if record.evaluation else ()
    return go.Scatter(
        x=list(range(1, len(curve) + 1)),
        y=[epoch.validation_accuracy for epoch in curve],
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        hovertemplate="%{y:.3f}",
    )


def _kind(row: LayerCost) -> str:
    if row.kind.startswith("conv"):
        return "pointwise" if row.kind.startswith("conv 1x1") else "convolution"
    return next((kind for kind in _KIND_COLOURS if row.kind.startswith(kind)), "")


def _pairs(rows: Sequence[LayerCost], values: Sequence[int]) -> Iterator[tuple[LayerCost, int]]:
    return zip(rows, values, strict=True)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.3)"
