"""Synthetic accuracies on a real search space: smooth in the architecture, with noise.

No network is trained. Accuracy saturates in log Mult-Adds. Differences at equal cost depend on the
positions of depth, expansion, kernels, squeeze-excite and block types, with weights drawn by a
seed. The accuracies test a sampler on conditional choices, whole-stage choices and limits. They say
nothing about real networks.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.space.architecture import Architecture
from mbsearch.space.blocks import BLOCKS

NOISE = 0.006
THIRDS = 3


@dataclass(frozen=True)
class SpaceTruth:
    """Accuracies of one space and seed."""

    space: SearchSpecification
    seed: int

    def canonical(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the active parameters."""
        return dict(self._known(params).params)

    def accuracy(self, params: dict[str, Any]) -> float:
        """Return the mean accuracy over seeds."""
        return self._known(params).accuracy

    def mult_adds(self, params: dict[str, Any]) -> float:
        """Return the exact Mult-Adds of a network."""
        return self._known(params).mult_adds

    def log_params(self, params: dict[str, Any]) -> float:
        """Return the logarithm of the number of parameters."""
        return self._known(params).log_params

    def feasible(self, params: dict[str, Any]) -> bool:
        """Return whether a network is within the space's limits."""
        return self._known(params).feasible

    def observe(self, params: dict[str, Any], seed: int) -> float:
        """Return the accuracy of one training with a seed."""
        text = repr((seed, self.space.decode(params).fingerprint))
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        return self.accuracy(params) + float(rng.normal(0, NOISE))

    def _known(self, params: dict[str, Any]) -> _Facts:
        return _facts(self.space.name, self.seed, tuple(params.items()))


class _Facts(NamedTuple):
    """Facts about one network; `params` are the active ones."""

    params: tuple[tuple[str, Any], ...]
    accuracy: float
    mult_adds: float
    log_params: float
    feasible: bool


# The sampler asks for each fact by itself, and for all of them of one network in a row.
@lru_cache(maxsize=20_000)
def _facts(name: str, seed: int, params: tuple[tuple[str, Any], ...]) -> _Facts:
    architecture, used = _space(name).decode_canonical(dict(params))
    kept = tuple(used.items())
    try:
        costs = measure(architecture)
    except SpecError:  # its strides leave no pixels
        return _Facts(kept, 0.0, 1.0, 0.0, feasible=False)
    score = 0.9 * (math.log10(costs["mult_adds"]) - 6) + _skill(architecture, seed)
    return _Facts(
        kept,
        accuracy=0.95 - 0.6 * math.exp(-score),
        mult_adds=float(costs["mult_adds"]),
        log_params=math.log(costs["params"]),
        feasible=_space(name).settings.limits.excess(costs) is None,
    )


@lru_cache(maxsize=4)
def _space(name: str) -> SearchSpecification:
    return load_specification(name)


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
    """Return the part of accuracy beyond cost; early, middle and late stages weigh differently."""
    weights = _weights(seed)
    skill = weights["resolution"] * math.log2(architecture.resolution.side / 160)
    skill += weights["alpha"] * math.log2(architecture.alpha)
    stages = architecture.stages
    for i, stage in enumerate(stages):
        third = i * THIRDS // len(stages)
        skill += weights["depth"][third] * math.log2(1 + stage.repeats)
        skill += weights["block"][stage.block][third]
        skill += weights["kernel"][third] * (getattr(stage, "kernel", 3) - 3) / 2
        skill += weights["expansion"][third] * math.sqrt(getattr(stage, "expansion", 1))
        skill += weights["squeeze"][third] * (getattr(stage, "squeeze_ratio", 0) > 0)
    return float(skill) / 2
