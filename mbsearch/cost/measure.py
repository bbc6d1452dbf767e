"""Exact costs of a network, computed from its layers without torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from mbsearch.cost.layer_counts import count_layer
from mbsearch.cost.memory import activation_bytes
from mbsearch.cost.metrics import METRICS
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Linear, PlacedLayer, Pool, Shape, SqueezeExcite


class Measure(Protocol):
    """A function that returns a network's costs: `measure`, or one that adds the latency."""

    def __call__(
        self, architecture: Architecture, metrics: Collection[str] = ..., /
    ) -> dict[str, int]:
        """Return at least the costs of these metrics, by default all."""


def measure(
    architecture: Architecture, metrics: Collection[str] = tuple(METRICS)
) -> dict[str, int]:
    """Return a network's exact costs by the keys of `METRICS`, such as `mult_adds`.

    Fewer metrics are faster: flash and RAM take half of the time.

    Raises:
        SpecError: a stride meets a map without a second pixel.
    """
    return total(architecture.layers(), metrics)


def total(
    layers: Iterable[PlacedLayer], metrics: Collection[str] = tuple(METRICS)
) -> dict[str, int]:
    """Return a network's exact costs, given its layers."""
    # A search costs hundreds of networks a trial, so that each layer is counted once.
    counted = [count_layer(placed) for placed in layers]
    return {
        key: metric.of_layers(counted)
        for key, metric in METRICS.items()
        if key in metrics and metric.of_layers is not None
    }


class LayerCost(NamedTuple):
    """Costs of one layer, as printed by ``mbsearch count --layers``."""

    name: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    mult_adds: int
    params: int
    weights: int
    activation_bytes: int


def layer_costs(architecture: Architecture) -> list[LayerCost]:
    """Return the costs of each layer of a network, in the order of execution.

    Raises:
        SpecError: a stride meets a map without a second pixel.
    """
    return [
        LayerCost(
            placed.name,
            _kind(placed),
            placed.in_shape,
            placed.out_shape,
            counts.mult_adds,
            counts.params,
            counts.weights,
            activation_bytes(placed),
        )
        for placed in architecture.layers()
        for counts in (count_layer(placed),)
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
