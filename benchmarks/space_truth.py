"""A made-up truth on a real search space: smooth in the architecture, with noise.

No network is trained. Accuracy saturates in log Mult-Adds; what lifts a network above or below
others of its cost depends on where depth, expansion, kernels, squeeze-excite and block types stand,
with weights drawn by a seed. It serves to see whether a sampler copes with a space's conditional
choices, whole-stage choices and limits; it says nothing about real networks.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.space.architecture import Architecture
from mbsearch.space.blocks import BLOCKS
from mbsearch.space.catalog import load_space
from mbsearch.space.space import SearchSpace

NOISE = 0.006
THIRDS = 3


@dataclass(frozen=True)
class SpaceTruth:
    """The truth of one space and seed."""

    space: SearchSpace
    seed: int

    def accuracy(self, params: dict[str, Any]) -> float:
        """Mean accuracy over seeds."""
        return self._known(tuple(sorted(self.space.canonical(params).items())))[0]

    def mult_adds(self, params: dict[str, Any]) -> float:
        """Exact cost of the network; a large one where it cannot be built."""
        return self._known(tuple(sorted(self.space.canonical(params).items())))[1]

    def log_params(self, params: dict[str, Any]) -> float:
        """Log parameters of the network."""
        return self._known(tuple(sorted(self.space.canonical(params).items())))[2]

    def feasible(self, params: dict[str, Any]) -> bool:
        """Whether the network keeps the space's limits."""
        try:
            costs = measure(self.space.decode(params))
        except SpecError:
            return False
        return self.space.settings.limits.excess(costs) is None

    def observe(self, params: dict[str, Any], seed: int) -> float:
        """What one training of a seed shows."""
        text = repr((seed, self.space.decode(params).fingerprint))
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        return self.accuracy(params) + float(rng.normal(0, NOISE))

    def _known(self, params: tuple[tuple[str, Any], ...]) -> tuple[float, float, float]:
        return _facts(self.space.name, self.seed, params)


@lru_cache(maxsize=200_000)
def _facts(name: str, seed: int, params: tuple[tuple[str, Any], ...]) -> tuple[float, float, float]:
    architecture = _space(name).decode(dict(params))
    costs = measure(architecture)
    size = math.log10(costs["mult_adds"])
    score = 0.9 * (size - 6) + _skill(architecture, seed)
    return 0.95 - 0.6 * math.exp(-score), float(costs["mult_adds"]), math.log(costs["params"])


@lru_cache(maxsize=4)
def _space(name: str) -> SearchSpace:
    return load_space(name)


@lru_cache(maxsize=16)
def _weights(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "depth": rng.normal(0.05, 0.05, THIRDS),
        "expansion": rng.normal(0.03, 0.02, THIRDS),
        "kernel": rng.normal(0.03, 0.06, THIRDS),
        "squeeze": rng.normal(0.10, 0.06, THIRDS),
        "block": {block: rng.normal(0, 0.10, THIRDS) for block in BLOCKS},
        "resolution": float(rng.normal(0.25, 0.15)),
        "alpha": float(rng.normal(0.15, 0.10)),
    }


def _skill(architecture: Architecture, seed: int) -> float:
    """What the network makes of its cost; early, middle and late stages count differently."""
    weights = _weights(seed)
    skill = weights["resolution"] * math.log2(architecture.resolution / 160)
    skill += weights["alpha"] * math.log2(architecture.alpha)
    stages = architecture.stages
    for i, stage in enumerate(stages):
        third = i * THIRDS // len(stages)
        skill += weights["depth"][third] * math.log2(1 + stage.repeats)
        skill += weights["block"][stage.block][third]
        skill += weights["kernel"][third] * (getattr(stage, "kernel", 3) - 3) / 2
        skill += weights["expansion"][third] * math.sqrt(getattr(stage, "expansion", 1))
        skill += weights["squeeze"][third] * (getattr(stage, "squeeze_ratio", 0) > 0)
    return skill / 2
