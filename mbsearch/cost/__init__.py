"""What a network costs, exactly, and what the references of a budget cost."""

from mbsearch.cost.metrics import (
    FLOAT32_BYTES,
    METRICS,
    LayerCost,
    Measure,
    layer_costs,
    measure,
    mult_adds,
    total,
)

__all__ = [
    "FLOAT32_BYTES",
    "METRICS",
    "LayerCost",
    "Measure",
    "layer_costs",
    "measure",
    "mult_adds",
    "total",
]
