"""Linear latency model, fast enough to predict every candidate of a search.

Each kind of layer has a time per layer, per multiply-accumulate, and per byte read or written. The
latency of a network is the sum over its layers. The rates are fitted to measured networks by
non-negative least squares of the relative error.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from mbsearch.analysis.kendall import kendall_tau
from mbsearch.cost import FLOAT32_BYTES, Measure, measure, total
from mbsearch.cost.layer_counts import count_layer
from mbsearch.cost.metrics import LATENCY, METRICS
from mbsearch.errors import SpecError
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Linear, PlacedLayer, Pool, SqueezeExcite
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.latency_setting import MODEL_KEY, LatencySetting

LEAST = 8  # networks: fewer do not determine the rates


@dataclass(frozen=True, slots=True)
class Timed:
    """A measured network and its latency for one image."""

    name: str
    fingerprint: str
    mult_adds: int
    microseconds: float


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Microseconds per unit of each feature, with leave-one-out errors of the fit.

    Errors are relative, of each measured network by a fit to the others. `kendall_tau` is the rank
    agreement of those predictions with the measurements, `mult_adds_tau` that of Mult-Adds.
    """

    rates: Mapping[str, float]
    setting: LatencySetting
    networks: tuple[Timed, ...]
    median_error: float
    worst_error: float
    kendall_tau: float
    mult_adds_tau: float

    @staticmethod
    def fit(
        architectures: Sequence[Architecture],
        microseconds: Sequence[float],
        setting: LatencySetting,
    ) -> LatencyModel:
        """Fit the rates to measured networks.

        Raises:
            SpecError: there are too few of them.
        """
        if len(architectures) < LEAST:
            raise SpecError(
                f"latency: expected at least {LEAST} networks within the limits to measure, got "
                f"{len(architectures)}"
            )
        rows = [features(network.layers()) for network in architectures]
        names = sorted({name for row in rows for name in row})
        inputs = np.array([[row.get(name, 0.0) for name in names] for row in rows])
        times = np.asarray(microseconds, dtype=float)
        held_out = np.array([_held_out(inputs, times, i) for i in range(len(times))])
        errors = np.abs(held_out / times - 1)
        counts = [measure(network)["mult_adds"] for network in architectures]
        return LatencyModel(
            dict(zip(names, _rates(inputs, times).tolist(), strict=True)),
            setting,
            tuple(
                Timed(network.name, network.fingerprint, count, time)
                for network, count, time in zip(architectures, counts, times.tolist(), strict=True)
            ),
            float(np.median(errors)),
            float(errors.max()),
            kendall_tau(held_out, times),
            kendall_tau(counts, times),
        )

    def measure(
        self, architecture: Architecture, metrics: Collection[str] = tuple(METRICS)
    ) -> dict[str, int]:
        """Return a network's exact costs of these metrics, and its predicted latency in µs.

        Raises:
            SpecError: a stride meets a map of one pixel, or no measured network has a layer of
                this kind.
        """
        layers = list(architecture.layers())
        return {**total(layers, metrics), LATENCY: self._predict(layers)}

    def _predict(self, layers: Sequence[PlacedLayer]) -> int:
        try:
            found = sum(self.rates[name] * value for name, value in features(layers).items())
        except KeyError as unknown:
            raise SpecError(
                f"latency: expected layers of kinds that were measured, got another kind: {unknown}"
            ) from None
        return max(1, round(found))

    def sentence(self) -> str:
        """Return a sentence about the model's errors and rank agreement."""
        return (
            f"latency on {self.setting}: a model of "
            f"{len(self.networks)} measured networks has a leave-one-out error of "
            f"{self.median_error:.1%} in the median and {self.worst_error:.1%} at worst, and a "
            f"Kendall tau of {self.kendall_tau:.2f}; that of Mult-Adds is {self.mult_adds_tau:.2f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain data."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write the model into a study's folder as ``latency_model.json``.

        Raises:
            StorageError: it cannot be written.
        """
        self.write_file(folder / f"{MODEL_KEY}.json")

    def write_file(self, path: Path) -> None:
        """Write the model as JSON.

        Raises:
            StorageError: it cannot be written.
        """
        write_atomically(path, json.dumps(self.to_dict(), indent=1))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> LatencyModel:
        """Return the model from data that `to_dict` returned."""
        networks = tuple(Timed(**row) for row in data["networks"])
        changes = {"setting": LatencySetting(**data["setting"]), "networks": networks}
        return LatencyModel(**{**data, **changes})


def measure_of_study(settings: Mapping[str, Any]) -> Measure:
    """Return the function that computes a network's costs in a study.

    It predicts the latency too if the study has a latency model.
    """
    kept = settings.get(MODEL_KEY)
    return measure if kept is None else LatencyModel.from_dict(kept).measure


def features(layers: Iterable[PlacedLayer]) -> dict[str, float]:
    """Return a network's features: 1, and count, Mult-Adds and bytes for each kind of layer."""
    found = {"network": 1.0}
    for placed in layers:
        kind = _kind(placed)
        moved = FLOAT32_BYTES * (placed.in_shape.elements + placed.out_shape.elements)
        for what, value in (
            ("count", 1),
            ("mult_adds", count_layer(placed).mult_adds),
            ("bytes", moved),
        ):
            name = f"{kind} {what}"
            found[name] = found.get(name, 0.0) + value
    return found


def _kind(placed: PlacedLayer) -> str:
    layer = placed.layer
    match layer:
        case Conv(depthwise=True):
            return "depthwise"
        case Conv(kernel=(1, 1)):
            return "pointwise"
        case Conv():
            return "convolution"
        case SqueezeExcite():
            return "squeeze-excite"
        case Linear():
            return "linear"
        case Pool():
            return "pool"


def _rates(inputs: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit non-negative rates that minimise the squared relative error."""
    relative = inputs / times[:, None]
    scale = np.maximum(relative.max(axis=0), np.finfo(float).tiny)
    return np.asarray(nnls(relative / scale, np.ones(len(times)))[0] / scale)


def _held_out(inputs: NDArray[np.float64], times: NDArray[np.float64], i: int) -> float:
    """Predict the latency of network `i` from a fit to all other networks."""
    others = np.arange(len(times)) != i
    return float(inputs[i] @ _rates(inputs[others], times[others]))
