"""Published ImageNet results of reference networks, with sources."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("published.csv")


@dataclass(frozen=True, slots=True)
class Published:
    """A published result of a fully trained network; not comparable with proxy accuracies.

    `top1` is a fraction of the ImageNet validation images. `mult_adds` and `params` are those of
    the source and may differ from exact counts. `pixel1_ms` is the latency on one core of a Pixel 1
    in milliseconds, None if the source has none.
    """

    model: str
    family: str
    alpha: float
    resolution: int
    mult_adds: float
    params: float
    top1: float
    pixel1_ms: float | None
    source: str


@cache
def published() -> tuple[Published, ...]:
    """Return the published results of MobileNet V1, V2, V3 and MnasNet-A1."""
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                model=row["model"],
                family=row["family"],
                alpha=float(row["alpha"]),
                resolution=int(row["resolution"]),
                mult_adds=float(row["mult_adds_m"]) * 1e6,
                params=float(row["params_m"]) * 1e6,
                top1=float(row["top1"]) / 100,
                pixel1_ms=float(row["pixel1_ms"]) if row["pixel1_ms"] else None,
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )
