"""The layer program: a network as data, from which costs, modules and exports are derived.

A `Program` is a stem, stages of blocks, and a head. Convolutions have no bias and are followed by
batch normalisation, as in the MobileNet papers. Linear layers have a bias. A stride divides
the side of a map, rounded up: TensorFlow's SAME, or a padding of ``kernel // 2`` for odd kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mbsearch.space.size import Size

Activation = Literal["relu", "relu6", "hard_swish"]
Gate = Literal["sigmoid", "hard_sigmoid"]

BATCH_NORM_PARAMS_PER_CHANNEL = 2  # scale and shift; running statistics are not trained


class Shape(NamedTuple):
    """Shape (C, H, W) of one image's feature map."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        """Number of values in the map."""
        return self.channels * self.height * self.width


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution without bias, batch normalization, then an optional activation."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    depthwise: bool = False
    activation: Activation | None = None

    def out_shape(self, x: Shape) -> Shape:
        """Return the shape (C, H, W) of the output."""
        return Shape(self.channels, -(-x.height // self.stride[0]), -(-x.width // self.stride[1]))


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """Channel attention: pool, reduce, ReLU, expand, gate, multiply (V3 paper, section 5.3)."""

    name: str
    squeezed: int
    gate: Gate

    def out_shape(self, x: Shape) -> Shape:
        """Return the input's shape."""
        return x


@dataclass(frozen=True, slots=True)
class Pool:
    """Global average pooling to a 1x1 map."""

    name: str

    def out_shape(self, x: Shape) -> Shape:
        """Return the shape (C, 1, 1)."""
        return Shape(x.channels, 1, 1)


@dataclass(frozen=True, slots=True)
class Linear:
    """Fully connected layer with bias, then an optional activation."""

    name: str
    features: int
    activation: Activation | None = None

    def out_shape(self, x: Shape) -> Shape:
        """Return the shape (features, 1, 1)."""
        return Shape(self.features, 1, 1)


Layer = Conv | SqueezeExcite | Pool | Linear


@dataclass(frozen=True, slots=True)
class Block:
    """Repeated unit of a stage: a chain of layers with an optional shortcut.

    `shortcut` is None for a plain chain, empty for an identity shortcut, and else the layers of a
    projection. `activation` follows the addition. `kind` is the name of the block type in the YAML;
    it does not change what the block computes.
    """

    body: tuple[Conv | SqueezeExcite, ...]
    shortcut: tuple[Conv, ...] | None = None
    activation: Activation | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A whole network as layers: stem, stages of blocks, and head.

    Stages without a block are left out. `stage_indices` has the index in the architecture of each
    stage that remains. `in_channels` are those of the images.
    """

    stem: Conv
    stages: tuple[tuple[Block, ...], ...]
    head: tuple[Conv | Pool | Linear, ...]
    stage_indices: tuple[int, ...]
    in_channels: int = 3


class PlacedLayer(NamedTuple):
    """A layer in a network, with its dotted name, input shape and output shape.

    `held` is the number of values of open shortcuts that are in memory while the layer runs.
    `source` is the index of the layer whose output it reads, -1 for the image. `added` is that of
    the layer whose output is added to its own, None without an addition; `activation` follows that.
    """

    name: str
    layer: Layer
    in_shape: Shape
    out_shape: Shape
    held: int
    source: int
    added: int | None = None
    activation: Activation | None = None


def trace(program: Program, resolution: Size) -> Iterator[PlacedLayer]:
    """Yield a program's layers with their shapes, for an image of a size."""
    x = Shape(program.in_channels, resolution.height, resolution.width)
    x_next = program.stem.out_shape(x)
    yield PlacedLayer(program.stem.name, program.stem, x, x_next, 0, -1)
    x, last = x_next, 0
    for i, stage in enumerate(program.stages):
        for j, block in enumerate(stage):
            for placed in _trace_block(block, f"stages.{i}.{j}.", x, last):
                yield placed
                x = placed.out_shape
                last += 1
    for layer in program.head:
        x_next = layer.out_shape(x)
        yield PlacedLayer("head." + layer.name, layer, x, x_next, 0, last)
        x = x_next
        last += 1


def _trace_block(block: Block, prefix: str, x_in: Shape, source: int) -> Iterator[PlacedLayer]:
    """Yield the layers of a block whose input is the output of layer `source`."""
    x, last, held = x_in, source, 0
    for layer in block.body:
        x_next = layer.out_shape(x)
        # Without layers of its own, the shortcut is added to the body's last output.
        added = source if block.shortcut == () and layer is block.body[-1] else None
        after = None if added is None else block.activation
        yield PlacedLayer(prefix + layer.name, layer, x, x_next, held, last, added, after)
        x = x_next
        last = source + 1 if last == source else last + 1
        if block.shortcut is not None:
            # From the second layer on, the block's input is in memory too.
            held = x_in.elements
    body, x_body = last, x
    x, last = x_in, source
    for index, layer in enumerate(block.shortcut or (), start=body + 1):
        x_next = layer.out_shape(x)
        added = body if layer is (block.shortcut or ())[-1] else None
        after = None if added is None else block.activation
        yield PlacedLayer(
            prefix + layer.name, layer, x, x_next, x_body.elements, last, added, after
        )
        x, last = x_next, index
