"""``latency.json``: latencies of a study's networks, measured by `mbsearch latency`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mbsearch.cost.metrics import MEASURED_US
from mbsearch.space.size import Size
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.json_files import read_json

LATENCY = "latency.json"


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Latency for one image in microseconds: median, lower and upper quartile."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency for one image with an engine: median and quartiles over `runs`."""

    engine: str
    threads: int
    runs: int
    median_seconds: float
    lower_quartile_seconds: float
    upper_quartile_seconds: float

    @property
    def spread(self) -> float:
        """Interquartile range divided by the median."""
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
        """Return the latency from plain data; raise `ValueError` if the times are invalid."""
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
    """Latency of one network with one engine."""

    name: str
    fingerprint: str
    alpha: float
    resolution: Size
    mult_adds: int
    latency: Latency

    def to_dict(self) -> dict[str, Any]:
        """Return the latency as one flat row."""
        row = {name: getattr(self, name) for name in _NETWORK}
        return row | {"resolution": self.resolution.plain} | asdict(self.latency)

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> NetworkLatency:
        """Return the latency from one flat row."""
        return NetworkLatency(
            str(row["name"]),
            str(row["fingerprint"]),
            float(row["alpha"]),
            Size.parse(row["resolution"]),
            int(row["mult_adds"]),
            Latency.from_dict(row),
        )


_NETWORK = ("name", "fingerprint", "alpha", "resolution", "mult_adds")


@dataclass(frozen=True, slots=True)
class LatencyFile:
    """The latencies beside a study, with one or several engines."""

    networks: tuple[NetworkLatency, ...] = ()

    def with_engines_of(self, measured: tuple[NetworkLatency, ...]) -> LatencyFile:
        """Return the latencies, with `measured` in place of all earlier ones of its engines."""
        engines = {each.latency.engine for each in measured}
        others = tuple(each for each in self.networks if each.latency.engine not in engines)
        return LatencyFile(others + measured)

    def by_metric(self) -> dict[str, dict[str, Quartiles]]:
        """Return latencies by metric (``onnxruntime_us``), then by network fingerprint."""
        found: dict[str, dict[str, Quartiles]] = {}
        for each in self.networks:
            times = found.setdefault(each.latency.engine + MEASURED_US, {})
            times[each.fingerprint] = each.latency.quartiles
        return found

    def write(self, folder: Path) -> Path:
        """Write ``latency.json`` into a study's folder, and return its path.

        Raises:
            StorageError: it cannot be written.
        """
        rows = [each.to_dict() for each in self.networks]
        return write_atomically(folder / LATENCY, json.dumps({"networks": rows}))

    @staticmethod
    def read(folder: Path) -> LatencyFile:
        """Read the latencies in a study's folder; without a file there are none.

        Raises:
            StorageError: the file is damaged.
        """
        found = read_json(folder / LATENCY, "latency", LatencyFile._decoded)
        return LatencyFile() if found is None else found

    @staticmethod
    def _decoded(data: Any) -> LatencyFile:
        return LatencyFile(tuple(map(NetworkLatency.from_dict, data["networks"])))
