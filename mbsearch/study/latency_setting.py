"""Where the measurements of a study's latency model were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODEL_KEY = "latency_model"
"""Key of the latency model in a study's settings."""
PROBE_KIT = "the probe kit"
"""Engine of measurements that a user made on a device of his own."""


@dataclass(frozen=True, slots=True)
class LatencySetting:
    """Engine, threads, machine and versions of latency measurements.

    The engine is `PROBE_KIT` and the machine the device's name if a user measured the networks.
    """

    engine: str
    threads: int
    machine: str
    versions: Mapping[str, str]

    def __str__(self) -> str:
        if self.engine == PROBE_KIT:
            return f"{self.machine}, measured with {PROBE_KIT}"
        return f"{self.machine} by {self.engine}, {self.threads} thread"

    @staticmethod
    def of(settings: Mapping[str, Any]) -> LatencySetting | None:
        """Return the setting of a study's latency model; None in a study without one."""
        model = settings.get(MODEL_KEY)
        return None if model is None else LatencySetting(**model["setting"])
