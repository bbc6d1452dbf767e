"""Explain a network's cost: each block term by term, beside the standard convolution it replaces.

The text is in plain words for students. The command ``mbsearch explain`` and the network page of
the dashboard show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mbsearch.cost.layer_counts import LayerCounts, count_layer
from mbsearch.cost.units import millions
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Linear, PlacedLayer, Pool, Shape, SqueezeExcite

SYMBOLS = (
    "k: side of the kernel; M: input channels; N: output channels; S: squeezed channels; "
    "H, W: height and width of the output map."
)
"""The letters of the formulas, as in the MobileNet papers."""
CONVENTION = (
    "Mult-Adds are the multiply-accumulates of convolutions and linear layers for one image. "
    "Parameters include batch normalisation (2 N) and the biases of linear layers."
)

HEAD = ("layer", "formula", "in numbers", "Mult-Adds", "parameters")
"""The columns of `BlockCost.rows`."""


@dataclass(frozen=True, slots=True)
class Term:
    """The cost of one layer as a product.

    `factors` has the letter and the value of each factor; their product is the Mult-Adds.
    """

    counts: LayerCounts
    factors: tuple[tuple[str, int], ...]

    @property
    def layer(self) -> str:
        """The layer's name in its block."""
        return self.counts.placed.name.rsplit(".", 1)[-1]

    @property
    def formula(self) -> str:
        """The product in letters: ``k·k·M·H·W``."""
        return "·".join(letter for letter, _ in self.factors) or "0"

    @property
    def numbers(self) -> str:
        """The product in numbers: ``3·3·96·56·56``."""
        return "·".join(str(value) for _, value in self.factors) or "0"

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table's row, under `HEAD`."""
        counts = self.counts
        numbers = (f"{counts.mult_adds:,}", f"{counts.params:,}")
        return self.layer, self.formula, self.numbers, *numbers

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "layer": self.layer,
            "formula": self.formula,
            "numbers": self.numbers,
            "mult_adds": self.counts.mult_adds,
            "params": self.counts.params,
        }


@dataclass(frozen=True, slots=True)
class BlockCost:
    """The cost of a block, of the stem, or of the head.

    `standard` is the standard convolution of the block's input, output, kernel and stride; None for
    stem and head, which replace none. `words` explains the cost in sentences.
    """

    name: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    terms: tuple[Term, ...]
    standard: Term | None
    words: str

    @property
    def mult_adds(self) -> int:
        """Mult-Adds of all layers."""
        return sum(term.counts.mult_adds for term in self.terms)

    @property
    def params(self) -> int:
        """Parameters of all layers."""
        return sum(term.counts.params for term in self.terms)

    @property
    def standard_mult_adds(self) -> int:
        """Mult-Adds with the standard convolution in the block's place."""
        return self.mult_adds if self.standard is None else self.standard.counts.mult_adds

    @property
    def title(self) -> str:
        """The block's name, kind and shapes (C, H, W) in one line."""
        kind = "" if self.kind == self.name else f" {self.kind}"
        shapes = ("x".join(map(str, shape)) for shape in (self.in_shape, self.out_shape))
        return f"{self.name}{kind}: {' to '.join(shapes)}"

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of a table under `HEAD`: layers, their sum, the standard convolution."""
        rows = [term.row() for term in self.terms]
        if len(rows) > 1:
            rows.append(("block", "", "", f"{self.mult_adds:,}", f"{self.params:,}"))
        return rows if self.standard is None else [*rows, self.standard.row()]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "in_shape": list(self.in_shape),
            "out_shape": list(self.out_shape),
            "terms": [term.to_dict() for term in self.terms],
            "mult_adds": self.mult_adds,
            "params": self.params,
            "standard": None if self.standard is None else self.standard.to_dict(),
            "words": self.words,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The costs of a network's blocks, in the order of execution."""

    blocks: tuple[BlockCost, ...]

    @property
    def mult_adds(self) -> int:
        """Mult-Adds of the network."""
        return sum(block.mult_adds for block in self.blocks)

    @property
    def params(self) -> int:
        """Parameters of the network."""
        return sum(block.params for block in self.blocks)

    @property
    def standard_mult_adds(self) -> int:
        """Mult-Adds of the network with a standard convolution in the place of each block."""
        return sum(block.standard_mult_adds for block in self.blocks)

    @property
    def summary(self) -> str:
        """The network's cost beside that of standard convolutions, in sentences."""
        narrow = (
            " The standard convolutions connect narrow maps; the blocks filter more channels than "
            "they receive."
        )
        return (
            f"The network costs {millions(self.mult_adds)} Mult-Adds. With a standard convolution "
            "in the place of each block it would cost "
            f"{_times(self.standard_mult_adds, self.mult_adds)}."
            f"{narrow if self.standard_mult_adds < self.mult_adds else ''}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "mult_adds": self.mult_adds,
            "params": self.params,
            "standard_mult_adds": self.standard_mult_adds,
            "summary": self.summary,
            "blocks": [block.to_dict() for block in self.blocks],
        }


def explain(architecture: Architecture) -> Explanation:
    """Return the costs of a network's stem, blocks and head, explained.

    Raises:
        SpecError: a stride meets a map without a second pixel.
    """
    program = architecture.lower()
    kinds = ["stem", *(block.kind for stage in program.stages for block in stage), "head"]
    groups = groupby(architecture.layers(), key=_block_name)
    blocks: list[BlockCost] = []
    for kind, (name, layers) in zip(kinds, groups, strict=True):
        blocks.append(_block_cost(name, kind, list(layers), blocks[-1] if blocks else None))
    return Explanation(tuple(blocks))


def _block_name(placed: PlacedLayer) -> str:
    """Return the name of the block of a layer: ``stages.1.0``, ``stem`` or ``head``."""
    return placed.name.rsplit(".", 1)[0]


def _block_cost(
    name: str, kind: str, layers: Sequence[PlacedLayer], previous: BlockCost | None
) -> BlockCost:
    terms = tuple(map(_term, layers))
    in_shape, out_shape = layers[0].in_shape, layers[-1].out_shape
    standard = None if kind in ("stem", "head") else _term(_standard_convolution(layers))
    block = BlockCost(name, kind, in_shape, out_shape, terms, standard, "")
    if previous is not None and _is_same(block, previous):
        words = f"The same as {previous.name}."
    else:
        words = " ".join((*map(_sentence, terms), *_conclusion(block)))
    return BlockCost(name, kind, in_shape, out_shape, terms, standard, words)


def _is_same(block: BlockCost, other: BlockCost) -> bool:
    """Return whether two blocks have the same layers, each with the same product."""

    def products(each: BlockCost) -> list[Any]:
        return [(term.layer, term.factors) for term in each.terms]

    return block.kind == other.kind and products(block) == products(other)


def _standard_convolution(layers: Sequence[PlacedLayer]) -> PlacedLayer:
    """Return the standard convolution with a block's input, output, kernel and stride."""
    kernels = [placed.layer.kernel for placed in layers if isinstance(placed.layer, Conv)]
    kernel = max(height for height, _ in kernels), max(width for _, width in kernels)
    first, last = layers[0].in_shape, layers[-1].out_shape
    conv = Conv("standard", last.channels, kernel)
    return PlacedLayer(conv.name, conv, first, last, 0, -1)


def _term(placed: PlacedLayer) -> Term:
    """Return a layer's Mult-Adds as a product."""
    layer, c_in, (c_out, height, width) = placed.layer, placed.in_shape.channels, placed.out_shape
    factors: tuple[tuple[str, int], ...]
    match layer:
        case Conv():
            channels = (("M", c_in),) if layer.depthwise else (("M", c_in), ("N", c_out))
            kernel = tuple(("k", side) for side in layer.kernel if side > 1)
            factors = (*kernel, *channels, ("H", height), ("W", width))
        case SqueezeExcite():
            factors = (("2", 2), ("M", c_in), ("S", layer.squeezed))
        case Linear():
            factors = (("M", c_in), ("N", layer.features))
        case Pool():
            factors = ()
    return Term(count_layer(placed), factors)


def _sentence(term: Term) -> str:
    """Return what a layer does and costs, as a sentence."""
    placed = term.counts.placed
    layer, c_in, (_, height, width) = placed.layer, placed.in_shape.channels, placed.out_shape
    name = f"The {term.layer.replace('_', '-')}"
    cost = f"{term.numbers} = {millions(term.counts.mult_adds)}"
    match layer:
        case Pool():
            return f"{name} averages each of {c_in} maps to one value, which does not count."
        case Linear():
            what = f"combines {c_in} values into each of {layer.features:,} outputs"
        case SqueezeExcite():
            what = (
                f"averages each of {c_in} channels to one value, reduces the values to "
                f"{layer.squeezed} and computes a factor for each channel"
            )
        case Conv():
            kernel, at = "x".join(map(str, layer.kernel)), f"at {height}x{width} positions"
            if layer.depthwise:
                what = f"filters each of {c_in} channels by its own {kernel} kernel {at}"
            elif layer.kernel == (1, 1):
                what = f"mixes {c_in} channels into {layer.channels} {at}"
            else:
                what = (
                    f"computes each of {layer.channels} channels from all {c_in} by a {kernel} "
                    f"kernel {at}"
                )
            if layer.activation is None:
                what += ", without an activation"
    return f"{name} {what}: {cost}."


def _conclusion(block: BlockCost) -> list[str]:
    """Return the comparison of a block with the standard convolution, as sentences."""
    if block.standard is None:
        return []
    standard = block.standard.counts
    conv = standard.placed.layer
    assert isinstance(conv, Conv)
    if [term.factors for term in block.terms] == [block.standard.factors]:
        return ["This is a standard convolution, so nothing is saved."]
    kernel = "x".join(map(str, conv.kernel))
    c_in, c_out = block.in_shape.channels, conv.channels
    found = []
    if any(term.counts.placed.added is not None for term in block.terms):
        found.append("The addition of the shortcut does not count.")
    found.append(
        f"A standard {kernel} convolution from {c_in} to {c_out} channels would cost "
        f"{block.standard.numbers} = {_times(standard.mult_adds, block.mult_adds)} as the block."
    )
    if [term.formula for term in block.terms] == ["k·k·M·H·W", "M·N·H·W"]:
        area = math.prod(conv.kernel)
        found.append(
            "The block's share of it is "
            f"1/N + 1/k² = 1/{c_out} + 1/{area} = {1 / c_out + 1 / area:.3f}."
        )
    return [*found, *_inner_width(block, kernel, c_in)]


def _inner_width(block: BlockCost, kernel: str, c_in: int) -> list[str]:
    """Return a comparison at the inner width of a block that expands its channels, if it does."""
    for term in block.terms:
        placed = term.counts.placed
        width = placed.in_shape.channels
        if isinstance(placed.layer, Conv) and placed.layer.depthwise and width > c_in:
            wide = math.prod((*placed.layer.kernel, width, width, *placed.out_shape[1:]))
            return [
                f"The block filters {width} channels in the place of {c_in}. A standard {kernel} "
                f"convolution from {width} to {width} channels would cost "
                f"{_times(wide, block.mult_adds)} as the block."
            ]
    return []


def _times(standard: int, cost: int) -> str:
    """Return the standard cost with its ratio to a block's or network's cost as text."""
    return f"{millions(standard)}, {standard / cost:.3g} times as much"
