"""``latency.json``: measured latencies of a study's networks, as `mbsearch latency` wrote them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mbsearch.cost.metrics import MEASURED_US
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.json_files import read_json

LATENCY = "latency.json"


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Time of one image in microseconds: the median, and the quartiles around it."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one image: the median of `runs`, and the quartiles around it."""

    engine: str
    threads: int
    runs: int
    median_seconds: float
    lower_quartile_seconds: float
    upper_quartile_seconds: float

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a fraction of the median."""
        return (self.upper_quartile_seconds - self.lower_quartile_seconds) / self.median_seconds

    @property
    def quartiles(self) -> Quartiles:
        """Median and quartiles in microseconds."""
        return Quartiles(
            1e6 * self.lower_quartile_seconds,
            1e6 * self.median_seconds,
            1e6 * self.upper_quartile_seconds,
        )

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> Latency:
        """Decode plain data; `ValueError` for times that are not positive and in order."""
        if not isinstance(row["engine"], str):
            raise ValueError("engine")
        latency = Latency(
            row["engine"],
            int(row.get("threads", 1)),
            int(row.get("runs", 0)),
            *(float(row[f"{q}_seconds"]) for q in ("median", "lower_quartile", "upper_quartile")),
        )
        times = latency.quartiles
        if not 0 < times.low <= times.median <= times.high < math.inf:
            raise ValueError("times")
        return latency


@dataclass(frozen=True, slots=True)
class NetworkLatency:
    """Latency of one network."""

    name: str
    fingerprint: str
    alpha: float
    resolution: int
    mult_adds: int
    latency: Latency

    def to_dict(self) -> dict[str, Any]:
        """Encode as one flat row."""
        row = {name: getattr(self, name) for name in _NETWORK}
        return row | asdict(self.latency)

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> NetworkLatency:
        """Decode a flat row."""
        return NetworkLatency(
            str(row["name"]),
            str(row["fingerprint"]),
            float(row["alpha"]),
            int(row["resolution"]),
            int(row["mult_adds"]),
            Latency.from_dict(row),
        )


_NETWORK = ("name", "fingerprint", "alpha", "resolution", "mult_adds")


@dataclass(frozen=True, slots=True)
class LatencyFile:
    """The latencies beside a study, of one or several engines."""

    networks: tuple[NetworkLatency, ...] = ()

    def with_engines_of(self, measured: tuple[NetworkLatency, ...]) -> LatencyFile:
        """Replace all latencies of the engines that were measured anew."""
        engines = {each.latency.engine for each in measured}
        others = tuple(each for each in self.networks if each.latency.engine not in engines)
        return LatencyFile(others + measured)

    def by_metric(self) -> dict[str, dict[str, Quartiles]]:
        """Return the times by metric (``onnxruntime_us``), then by a network's fingerprint."""
        found: dict[str, dict[str, Quartiles]] = {}
        for each in self.networks:
            times = found.setdefault(each.latency.engine + MEASURED_US, {})
            times[each.fingerprint] = each.latency.quartiles
        return found

    def write(self, folder: Path) -> Path:
        """Write the file into a study's folder, and return its path.

        Raises:
            StorageError: it cannot be written.
        """
        rows = [each.to_dict() for each in self.networks]
        return write_atomically(folder / LATENCY, json.dumps({"networks": rows}))

    @staticmethod
    def read(folder: Path) -> LatencyFile:
        """Read the file in a study's folder; without one there are no latencies.

        Raises:
            StorageError: the file is damaged.
        """
        found = read_json(folder / LATENCY, "latency", LatencyFile._decoded)
        return LatencyFile() if found is None else found

    @staticmethod
    def _decoded(data: Any) -> LatencyFile:
        return LatencyFile(tuple(map(NetworkLatency.from_dict, data["networks"])))
