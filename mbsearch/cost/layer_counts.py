"""Counts of a layer: weights, offsets and output positions."""

from __future__ import annotations

from typing import NamedTuple

from mbsearch.space.layers import (
    BATCH_NORM_PARAMS_PER_CHANNEL,
    Conv,
    Linear,
    PlacedLayer,
    Pool,
    SqueezeExcite,
)


class LayerCounts(NamedTuple):
    """The counts that determine a layer's costs.

    `weights` are multiplicative, without biases and batch normalisation (as in the V1 and V2
    tables). `offsets` are the other trainable parameters: biases, batch-norm scale and shift.
    `positions` is the number of output positions: each weight is multiplied once at each.
    """

    placed: PlacedLayer
    weights: int
    offsets: int
    positions: int

    @property
    def params(self) -> int:
        """Number of trainable parameters."""
        return self.weights + self.offsets

    @property
    def mult_adds(self) -> int:
        """Number of multiply-accumulates for one image."""
        return self.weights * self.positions


def count_layer(placed: PlacedLayer) -> LayerCounts:
    """Return the counts of a layer, given its input and output shapes."""
    _, layer, (c_in, _, _), (_, height, width), *_ = placed
    match layer:
        case Conv():
            kh, kw = layer.kernel
            weights = layer.channels * kh * kw * (1 if layer.depthwise else c_in)
            offsets = BATCH_NORM_PARAMS_PER_CHANNEL * layer.channels
            return LayerCounts(placed, weights, offsets, height * width)
        case SqueezeExcite():
            return LayerCounts(placed, 2 * c_in * layer.squeezed, layer.squeezed + c_in, 1)
        case Linear():
            return LayerCounts(placed, c_in * layer.features, layer.features, 1)
        case Pool():
            return LayerCounts(placed, 0, 0, 1)
