"""Exact costs of a network, such as Mult-Adds, parameters and activation memory."""

from mbsearch.cost.measure import LayerCost, Measure, layer_costs, measure, total
from mbsearch.cost.memory import FLOAT32_BYTES
from mbsearch.cost.metrics import METRICS

__all__ = [
    "FLOAT32_BYTES",
    "METRICS",
    "LayerCost",
    "Measure",
    "layer_costs",
    "measure",
    "total",
]
