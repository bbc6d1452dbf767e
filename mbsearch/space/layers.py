"""The layer program: a network as data, from which costs, modules and exports are derived.

A `Program` is a stem, stages of blocks, and a head. Convolutions have no bias and are followed by
batch normalisation, as in the MobileNet papers. Linear layers have a bias. A stride divides
the side of a map, rounded up: TensorFlow's SAME, or a padding of ``kernel // 2`` for odd kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    stage that remains.
    """

    stem: Conv
    stages: tuple[tuple[Block, ...], ...]
    head: tuple[Conv | Pool | Linear, ...]
    stage_indices: tuple[int, ...]


class PlacedLayer(NamedTuple):
    """A layer in a network, with its dotted name, input shape and output shape.

    `held` is the number of values of open shortcuts that are in memory while the layer runs.
    """

    name: str
    layer: Layer
    in_shape: Shape
    out_shape: Shape
    held: int


def trace(program: Program, resolution: int) -> Iterator[PlacedLayer]:
    """Yield a program's layers with their shapes, for a square RGB image.

    Its sides are `resolution` pixels long.
    """
    x = Shape(3, resolution, resolution)
    x_next = program.stem.out_shape(x)
    yield PlacedLayer(program.stem.name, program.stem, x, x_next, 0)
    x = x_next
    for i, stage in enumerate(program.stages):
        for j, block in enumerate(stage):
            x_in, open_shortcut = x, 0
            prefix = f"stages.{i}.{j}."
            for layer in block.body:
                x_next = layer.out_shape(x)
                yield PlacedLayer(prefix + layer.name, layer, x, x_next, open_shortcut)
                x = x_next
                if block.shortcut is not None:
                    # From the second layer on, the block's input is in memory too.
                    open_shortcut = x_in.elements
            held_out = x.elements
            for layer in block.shortcut or ():
                x_next = layer.out_shape(x_in)
                yield PlacedLayer(prefix + layer.name, layer, x_in, x_next, held_out)
                x_in = x_next
    for last in program.head:
        x_next = last.out_shape(x)
        yield PlacedLayer("head." + last.name, last, x, x_next, 0)
        x = x_next
