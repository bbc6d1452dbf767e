"""Synthetic accuracies on a space like MobileNet's: 26 choices, some conditional, with noise.

Nothing here was measured. The accuracies replace months of training when samplers are compared on a
space too large for a table. Mult-Adds are those of the layers, accuracy is a smooth function of
the architecture, and each seed weighs the choices differently.

The space: width multiplier, resolution, and for each of six stages the block, repeats, kernel and
expansion. A separable block has no expansion, so that choice is inactive there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

Params = Mapping[str, object]

ALPHA = (0.35, 0.5, 0.75, 1.0, 1.4)
RESOLUTION = (96, 128, 160, 192, 224)
CHANNELS = (16, 24, 32, 64, 96, 160)
STRIDES = (1, 2, 2, 2, 1, 2)
BLOCKS = ("inverted_residual", "separable")
REPEATS = (1, 2, 3, 4)
KERNELS = (3, 5)
EXPANSIONS = (3, 4, 6)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


def search_space() -> dict[str, CategoricalDistribution]:
    """Return the 26 choices as Optuna distributions."""
    space = {
        "alpha": CategoricalDistribution(ALPHA),
        "resolution": CategoricalDistribution(RESOLUTION),
    }
    for stage in range(len(CHANNELS)):
        space[f"stages.{stage}.block"] = CategoricalDistribution(BLOCKS)
        space[f"stages.{stage}.repeats"] = CategoricalDistribution(REPEATS)
        space[f"stages.{stage}.kernel"] = CategoricalDistribution(KERNELS)
        space[f"stages.{stage}.expansion"] = CategoricalDistribution(EXPANSIONS)
    return space


def canonical(params: Params) -> dict[str, object]:
    """Return the parameters without inactive choices."""
    return {
        name: value
        for name, value in params.items()
        if not (name.endswith("expansion") and params[_block_of(name)] == "separable")
    }


def mult_adds(params: Params) -> int:
    """Return the exact Mult-Adds of convolutions and classifier (1000 classes)."""
    return _counts(params)[0]


def parameters(params: Params) -> int:
    """Return the number of weights of convolutions and classifier."""
    return _counts(params)[1]


def features(params: Params) -> list[float]:
    """Return the features of a network: log params, then the depth of each stage."""
    depths = [_number(params[f"stages.{stage}.repeats"]) for stage in range(len(CHANNELS))]
    return [math.log(parameters(params)), *depths]


@dataclass(frozen=True, slots=True)
class SyntheticTruth:
    """Accuracy of every network of the space, different for every ``seed``.

    The error falls as a power of a capacity to which resolution, width and every stage contribute
    with diminishing returns. Stages differ in how much they gain from depth, kernel and expansion,
    and a smooth random function of all choices makes networks of equal capacity differ.
    """

    stage_weight: NDArray[np.float64]
    kernel_gain: NDArray[np.float64]
    expansion_gain: NDArray[np.float64]
    block_gain: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    phases: NDArray[np.float64]
    noise: float

    @classmethod
    def from_seed(cls, seed: int, noise: float = 0.004) -> SyntheticTruth:
        """Draw a truth; ``noise`` is the standard deviation of one observed accuracy."""
        rng = np.random.default_rng(seed)
        stages = len(CHANNELS)
        return cls(
            stage_weight=rng.dirichlet(np.full(stages, 4.0)),
            kernel_gain=rng.uniform(-0.05, 0.25, stages),
            expansion_gain=rng.uniform(0.05, 0.6, stages),
            block_gain=rng.uniform(-0.1, 0.5, stages),
            frequencies=rng.normal(0.0, 0.7, (40, 2 + 4 * stages)),
            phases=rng.uniform(0.0, 2 * math.pi, 40),
            noise=noise,
        )

    def accuracy(self, params: Params) -> float:
        """Return the mean accuracy of a network, in (0, 1)."""
        alpha, resolution = _number(params["alpha"]), _number(params["resolution"])
        coordinates = [2 * math.log2(alpha), 4 * math.log2(resolution / 160)]
        quality = 0.0
        for stage in range(len(CHANNELS)):
            repeats = _number(params[f"stages.{stage}.repeats"])
            large_kernel = _number(params[f"stages.{stage}.kernel"]) == 5
            inverted = params[f"stages.{stage}.block"] == "inverted_residual"
            # A separable block is an inverted residual that does not expand.
            expansion = _number(params[f"stages.{stage}.expansion"]) if inverted else 1.0
            gain = (
                1.0
                + self.kernel_gain[stage] * large_kernel * (0.5 + resolution / 224)
                + self.expansion_gain[stage] * math.log2(expansion)
                + self.block_gain[stage] * inverted
            )
            quality += self.stage_weight[stage] * math.log2(1.0 + gain * repeats)
            coordinates += [repeats - 2.5, large_kernel - 0.5, inverted - 0.5, expansion / 3 - 1]
        quality += 0.45 * math.log2(alpha) + 0.6 * math.log2(resolution / 160)
        waves = np.cos(self.frequencies @ np.array(coordinates) + self.phases)
        quality += 0.06 * float(waves.sum()) / math.sqrt(len(waves) / 2)
        return 0.93 - 0.75 / (1.0 + math.exp(1.1 * (quality - 0.2)))

    def observe(self, params: Params, seed: int) -> float:
        """Return the accuracy of one training: the mean plus noise of the seed."""
        return self.accuracy(params) + float(np.random.default_rng(seed).normal(0.0, self.noise))


def _counts(params: Params) -> tuple[int, int]:
    alpha, side = _number(params["alpha"]), int(_number(params["resolution"]))
    channels = _scaled(STEM_CHANNELS, alpha)
    side = math.ceil(side / 2)
    weights = 27 * channels
    operations = weights * side * side
    for stage, (nominal, first_stride) in enumerate(zip(CHANNELS, STRIDES, strict=True)):
        inverted = params[f"stages.{stage}.block"] == "inverted_residual"
        expansion = int(_number(params[f"stages.{stage}.expansion"])) if inverted else 1
        kernel = int(_number(params[f"stages.{stage}.kernel"]))
        out_channels = _scaled(nominal, alpha)
        for repeat in range(int(_number(params[f"stages.{stage}.repeats"]))):
            hidden = channels * expansion
            if inverted:
                weights += channels * hidden
                operations += channels * hidden * side * side
            side = math.ceil(side / first_stride) if repeat == 0 else side
            layer = hidden * kernel * kernel + hidden * out_channels
            weights += layer
            operations += layer * side * side
            channels = out_channels
    head = channels * HEAD_CHANNELS
    classifier = HEAD_CHANNELS * 1000
    return operations + head * side * side + classifier, weights + head + classifier


def _scaled(nominal: int, alpha: float) -> int:
    return max(8, int(nominal * alpha + 4) // 8 * 8)


def _block_of(name: str) -> str:
    return name.rsplit(".", 1)[0] + ".block"


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
