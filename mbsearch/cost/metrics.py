"""Exact cost of a network: arithmetic on the layer program, no torch, no forward pass.

The convention is the papers' own. Mult-Adds are the multiply-accumulates of convolutional and
linear layers for one image at the network's own resolution, the classifier included; biases, batch
normalisation, activations, pooling and additions are not counted. A squeeze-excite counts as two
linear layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import (
    BATCH_NORM_PARAMS_PER_CHANNEL,
    Conv,
    Linear,
    PlacedLayer,
    Pool,
    Shape,
    SqueezeExcite,
)

FLOAT32_BYTES = 4

METRICS = {
    "mult_adds": "Mult-Adds",
    "params": "Parameters",
    "weights": "Weights (no bias, no batch norm)",
    "peak_activation_bytes": "Peak activation memory (bytes)",
    "latency_us": "Latency (µs, predicted)",  # where a study has a model of it
}

Measure = Callable[[Architecture], dict[str, int]]
"""What gives every metric of a network: `measure`, or `measure` with a latency beside it."""


def weights(placed: PlacedLayer) -> int:
    """Multiplicative weights of a layer: no biases, no batch normalisation (V1 and V2 tables)."""
    layer, c_in = placed.layer, placed.in_shape.channels
    match layer:
        case Conv():
            kh, kw = layer.kernel
            return layer.channels * kh * kw * (1 if layer.depthwise else c_in)
        case SqueezeExcite():
            return 2 * c_in * layer.squeezed
        case Linear():
            return c_in * layer.features
        case Pool():
            return 0


def params(placed: PlacedLayer) -> int:
    """Trainable parameters of a layer: weights, biases, batch-norm scale and shift."""
    return weights(placed) + _offsets(placed)


def _offsets(placed: PlacedLayer) -> int:
    layer = placed.layer
    match layer:
        case Conv():
            return BATCH_NORM_PARAMS_PER_CHANNEL * layer.channels
        case SqueezeExcite():
            return layer.squeezed + placed.in_shape.channels
        case Linear():
            return layer.features
        case Pool():
            return 0


def mult_adds(placed: PlacedLayer) -> int:
    """Multiply-accumulates of a layer for one image: output positions times weights."""
    return _positions(placed) * weights(placed)


def _positions(placed: PlacedLayer) -> int:
    if isinstance(placed.layer, Conv):
        return placed.out_shape.height * placed.out_shape.width
    return 1


def activation_bytes(placed: PlacedLayer) -> int:
    """Memory of the maps alive while a layer runs: input, output and held shortcuts; float32.

    Batch normalisation, activations and the scaling of a squeeze-excite work in place.
    """
    layer = placed.layer
    if isinstance(layer, SqueezeExcite):
        alive = placed.in_shape.elements + placed.in_shape.channels + layer.squeezed
    else:
        alive = placed.in_shape.elements + placed.out_shape.elements
    return FLOAT32_BYTES * (alive + placed.held)


class LayerCost(NamedTuple):
    """One row of the cost table: what a single layer adds."""

    name: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    mult_adds: int
    params: int
    weights: int
    activation_bytes: int


def layer_costs(architecture: Architecture) -> list[LayerCost]:
    """The cost table of a network, one row a layer, in the order of execution.

    Raises:
        SpecError: a stride meets a map without a second pixel.
    """
    return [
        LayerCost(
            placed.name,
            _kind(placed),
            placed.in_shape,
            placed.out_shape,
            mult_adds(placed),
            params(placed),
            weights(placed),
            activation_bytes(placed),
        )
        for placed in architecture.layers()
    ]


def _kind(placed: PlacedLayer) -> str:
    layer = placed.layer
    match layer:
        case Conv():
            kind = "depthwise" if layer.depthwise else "conv"
            stride = max(layer.stride)
            suffix = f" /{stride}" if stride > 1 else ""
            return f"{kind} {layer.kernel[0]}x{layer.kernel[1]}{suffix}"
        case SqueezeExcite():
            return f"squeeze-excite {layer.squeezed}"
        case Linear():
            return "linear"
        case Pool():
            return "average pool"


def measure(architecture: Architecture) -> dict[str, int]:
    """Every metric of a network: `mult_adds`, `params`, `weights`, `peak_activation_bytes`.

    Raises:
        SpecError: a stride meets a map without a second pixel.
    """
    return total(architecture.layers())


def total(layers: Iterable[PlacedLayer]) -> dict[str, int]:
    """Sum the layers' Mult-Adds, params and weights; take the peak of their memory."""
    # One pass that asks for each layer's weights once: a search costs hundreds of networks a trial.
    multiplied = trained = weighed = peak = 0
    for placed in layers:
        own = weights(placed)
        weighed += own
        multiplied += own * _positions(placed)
        trained += own + _offsets(placed)
        peak = max(peak, activation_bytes(placed))
    return {
        "mult_adds": multiplied,
        "params": trained,
        "weights": weighed,
        "peak_activation_bytes": peak,
    }
