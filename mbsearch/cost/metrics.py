"""The metrics of a network's cost, one row each.

Everything that computes, bounds, prints or draws a cost reads this table. To add a metric, add a
row. The convention is the papers': Mult-Adds are the multiply-accumulates of convolutional and
linear layers for one image at the network's own resolution, the classifier included. Biases, batch
normalisation, activations, pooling and additions are not counted. A squeeze-excite counts as two
linear layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mbsearch.cost.deployment import flash_bytes, ram_bytes
from mbsearch.cost.layer_counts import LayerCounts
from mbsearch.cost.memory import peak_activation_bytes
from mbsearch.cost.units import BYTES, MICROSECONDS, MILLIONS, THOUSANDS, Unit

LATENCY = "latency_us"
"""Key of the latency that a model predicts; a study without one does not have this cost."""
MEASURED_US = "_us"
"""Suffix of a measured latency's key, after its engine: ``onnxruntime_us``, in microseconds."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A cost metric: its names, its unit, and its function from layers to a value.

    Attributes:
        key: key in the costs of a record, and in JSON.
        noun: name in a sentence: ``parameters``.
        column: above a table's column, and before a control: ``Parameters``.
        title: title of an axis: ``Peak activation memory, float32``.
        label: label of the exact number: ``Peak activation memory (bytes)``.
        unit: unit of the values.
        of_layers: the metric's value; None if it is measured or predicted.
        name: name in YAML and options; None if it can be neither a bound nor an objective.
        slug: after the value in the name of a file: ``500kparams``.
    """

    key: str
    noun: str
    column: str
    title: str
    label: str
    unit: Unit
    of_layers: Callable[[Sequence[LayerCounts]], int] | None = None
    name: str | None = None
    slug: str = ""

    @property
    def short_title(self) -> str:
        """The title without a qualification after a comma or in brackets."""
        return self.title.split(" (")[0].split(",")[0].removesuffix(" of one image")

    def amount(self, value: float) -> str:
        """Return a value with unit and noun, such as ``300.8 M Mult-Adds``."""
        return f"{self.unit.format(value)} {'of ' if self.unit is BYTES else ''}{self.noun}"


def _mult_adds(layers: Sequence[LayerCounts]) -> int:
    return sum(layer.weights * layer.positions for layer in layers)


def _params(layers: Sequence[LayerCounts]) -> int:
    return sum(layer.weights + layer.offsets for layer in layers)


def _weights(layers: Sequence[LayerCounts]) -> int:
    return sum(layer.weights for layer in layers)


_ROWS = (
    Metric(
        key="mult_adds",
        noun="Mult-Adds",
        column="Mult-Adds",
        title="Mult-Adds of one image",
        label="Mult-Adds",
        unit=MILLIONS,
        of_layers=_mult_adds,
        name="mult_adds",
    ),
    Metric(
        key="params",
        noun="parameters",
        column="Parameters",
        title="Parameters",
        label="Parameters",
        unit=THOUSANDS,
        of_layers=_params,
        name="params",
        slug="params",
    ),
    Metric(
        key="weights",
        noun="weights",
        column="Weights",
        title="Weights (no bias, no batch norm)",
        label="Weights (no bias, no batch norm)",
        unit=MILLIONS,
        of_layers=_weights,
    ),
    Metric(
        key="peak_activation_bytes",
        noun="activation memory",
        column="Memory",
        title="Peak activation memory, float32",
        label="Peak activation memory (bytes)",
        unit=BYTES,
        of_layers=peak_activation_bytes,
        name="peak_activation_bytes",
    ),
    Metric(
        key="flash_bytes",
        noun="flash",
        column="Flash",
        title="Flash for the int8 file",
        label="Flash, int8 (bytes)",
        unit=BYTES,
        of_layers=flash_bytes,
        name="flash_bytes",
        slug="flash",
    ),
    Metric(
        key="ram_bytes",
        noun="RAM",
        column="RAM",
        title="RAM for int8 activations",
        label="RAM for activations, int8 (bytes)",
        unit=BYTES,
        of_layers=ram_bytes,
        name="ram_bytes",
        slug="ram",
    ),
    Metric(
        key=LATENCY,
        noun="latency",
        column="Latency",
        title="Latency of one image, predicted",
        label="Latency (µs, predicted)",
        unit=MICROSECONDS,
        name="latency",
    ),
)
METRICS = {row.key: row for row in _ROWS}
"""The metrics by key, in the order in which they are listed."""
COSTS = {row.name: row for row in _ROWS if row.name is not None}
"""The metrics that can be a limit, a budget or an objective, by their names in a YAML file."""


def find_metric(key: str) -> Metric:
    """Return the metric for a key.

    For a measured latency or an unknown key a metric is created.
    """
    if key in METRICS:
        return METRICS[key]
    if key.endswith(MEASURED_US):
        title = f"Latency by {key.removesuffix(MEASURED_US)}"
        return Metric(key, "latency", "Latency", title, title, MICROSECONDS)
    unit = BYTES if key.endswith("bytes") else MILLIONS
    return Metric(key, key, key, key, key, unit)


def quantity(key: str, value: float) -> str:
    """Return a cost with its unit as text, such as ``300.8 M`` or ``1.5 MiB``."""
    return find_metric(key).unit.format(value)


def amount(key: str, value: float) -> str:
    """Return a cost with unit and noun as text, such as ``300.8 M Mult-Adds``."""
    return find_metric(key).amount(value)


def columns(key: str, *others: str) -> tuple[str, ...]:
    """Return the keys of a table's cost columns without duplicates, `key` first."""
    return tuple(dict.fromkeys((key, *others)))


def table_costs(metric: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the keys of a table's cost columns among those known, the study's `metric` first."""
    memory = "peak_activation_bytes", "flash_bytes", "ram_bytes"
    return tuple(key for key in columns(metric, "mult_adds", "params", *memory) if key in known)


def round_amounts(key: str) -> tuple[float, ...]:
    """Return the round values of a cost: 1, 2, 5, 10, ..., or powers of two for memory."""
    return find_metric(key).unit.round_values
