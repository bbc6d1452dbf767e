"""Activation memory: the feature maps that are in memory while a layer runs."""

from __future__ import annotations

from collections.abc import Sequence

from mbsearch.cost.layer_counts import LayerCounts
from mbsearch.space.layers import PlacedLayer, SqueezeExcite

FLOAT32_BYTES = 4


def activation_bytes(placed: PlacedLayer) -> int:
    """Return the float32 bytes of a layer's input and output, and of shortcuts held for later.

    Batch normalisation, activations and the scaling of a squeeze-excite work in place.
    """
    _, layer, (channels, height, width), (c_out, h_out, w_out), held, *_ = placed
    out = channels + layer.squeezed if isinstance(layer, SqueezeExcite) else c_out * h_out * w_out
    return FLOAT32_BYTES * (channels * height * width + out + held)


def peak_activation_bytes(layers: Sequence[LayerCounts]) -> int:
    """Return the maximum of the layers' activation memory in bytes."""
    return max([activation_bytes(layer.placed) for layer in layers], default=0)
