"""Synthetic accuracies on two large spaces: 28 ordered choices, or 27 of which 25 are unordered.

Nothing here was measured. The accuracies replace months of training when samplers are compared on
spaces too large for a table. The log odds of the accuracy are a sum of the logarithm of the cost,
of an effect of every choice, and of interactions between pairs of choices, all drawn with a seed.
Choices of one kind (the kernels of all stages, the operations of all layers) are partly alike.
Effects and interactions are standardised over random networks. Networks of
equal cost have a standard deviation of 0.25 in the logit (eight random MobileNets of 14 to 20 M on
the embedded images: 0.15). No network deviates by more than 2.5 times that from the mean at its
cost.

- `wide`: width, resolution, stem, head, and for each of six stages repeats, kernel, expansion and
  squeeze-excite, as numbers.
- `layers`: width and resolution, and for each of 25 layers one of five operations.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

Params = Mapping[str, Any]
Array = NDArray[np.float64]

ALPHA = (0.1, 0.14, 0.18, 0.23, 0.27, 0.35, 0.43, 0.5)
RESOLUTION = (96, 112, 128, 160, 192, 224, 256)
WIDE_CHANNELS = (16, 24, 40, 80, 112, 192)
WIDE_SIDES = (2, 4, 8, 16, 16, 32)
LAYER_CHANNELS = (16, 24, 40, 80, 192)
OPERATIONS = {"skip": (0, 0), "k3e3": (3, 3), "k3e6": (3, 6), "k5e3": (5, 3), "k7e6": (7, 6)}
NOISE = 0.006
# Standard deviations of the parts of the log odds, over random networks.
MAIN, INTERACTIONS = 0.2, 0.15
SATURATION = 0.625  # 2.5 standard deviations of both together
PARTNERS = 3
KINDS = ("wide", "layers")


@dataclass(frozen=True)
class LargeTruth:
    """Accuracies of one kind of space and seed."""

    kind: str
    seed: int

    @cached_property
    def space(self) -> dict[str, CategoricalDistribution]:
        """The choices as Optuna distributions."""
        space = {"alpha": ALPHA, "resolution": RESOLUTION}
        if self.kind == "layers":
            options: dict[str, tuple[Any, ...]] = {f"layers.{i}": (*OPERATIONS,) for i in range(25)}
            return {name: CategoricalDistribution(v) for name, v in {**space, **options}.items()}
        options = {"stem": (16, 24, 32, 64), "head": (320, 640, 960, 1280)}
        for stage in range(len(WIDE_CHANNELS)):
            options[f"stages.{stage}.repeats"] = (1, 2, 3, 4)
            options[f"stages.{stage}.kernel"] = (3, 5, 7)
            options[f"stages.{stage}.expansion"] = (2, 3, 4, 6)
            options[f"stages.{stage}.squeeze_ratio"] = (0, 0.25)
        return {name: CategoricalDistribution(v) for name, v in {**space, **options}.items()}

    def mult_adds(self, params: Params) -> float:
        """Return the cost of a network from its layers' widths and sides."""
        return self._costs(params)[0]

    def log_params(self, params: Params) -> float:
        """Return the logarithm of the number of parameters."""
        return math.log(self._costs(params)[1])

    def accuracy(self, params: Params) -> float:
        """Return the mean accuracy over seeds, in (0, 1)."""
        odds = 0.5 * math.log(self.mult_adds(params) / 20e6)
        positions = self._positions(params)
        main, between = self._parts(positions)
        mean, deviation = self._scales
        effect = MAIN * (main - mean[0]) / deviation[0]
        effect += INTERACTIONS * (between - mean[1]) / deviation[1]
        odds += SATURATION * math.tanh(effect / SATURATION)
        return 0.2 + 0.7 / (1 + math.exp(-odds - 0.5))

    def observe(self, params: Params, seed: int) -> float:
        """Return the accuracy of one training with a seed."""
        text = repr((seed, self.seed, sorted(params.items())))
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        return self.accuracy(params) + float(rng.normal(0, NOISE))

    def _costs(self, params: Params) -> tuple[float, float]:
        values = tuple(params[name] for name in self.space)
        return _wide_costs(values) if self.kind == "wide" else _layer_costs(values)

    def _positions(self, params: Params) -> NDArray[np.intp]:
        return np.array([d.choices.index(params[name]) for name, d in self.space.items()])

    def _parts(self, positions: NDArray[np.intp]) -> tuple[float, float]:
        values, effects, pairs, strengths = self._drawn
        scores = values[np.arange(len(positions)), positions]
        between = strengths @ (scores[pairs[:, 0]] * scores[pairs[:, 1]])
        return float(effects @ scores), float(between)

    @cached_property
    def _drawn(self) -> tuple[Array, Array, NDArray[np.intp], Array]:
        """Draw option scores, effects of choices, and interacting pairs with their strengths."""
        kind = KINDS.index(self.kind)
        rng = np.random.default_rng([self.seed, kind])
        count = len(self.space)
        values = np.zeros((count, max(len(d.choices) for d in self.space.values())))
        common = rng.normal(0, 1, len(OPERATIONS))
        shared: dict[str, float] = {}
        effects = np.zeros(count)
        for i, (name, distribution) in enumerate(self.space.items()):
            options = len(distribution.choices)
            if isinstance(distribution.choices[0], str):
                values[i, :options] = common + rng.normal(0, 1, options)
            else:  # monotone, with unequal steps
                values[i, :options] = np.cumsum(rng.exponential(1, options))
            values[i, :options] -= values[i, :options].mean()
            values[i, :options] /= values[i, :options].std()
            family = name.rsplit(".", 1)[-1]
            same = shared.setdefault(family, float(rng.normal()))
            effects[i] = 1.0 if family.isdigit() else same + rng.normal()
        pairs = np.array(
            [
                (i, (i + 1 + int(j)) % count)
                for i in range(count)
                for j in rng.choice(count - 1, PARTNERS, replace=False)
            ]
        )
        return values, effects, pairs, rng.normal(0, 1, len(pairs))

    @cached_property
    def _scales(self) -> tuple[Array, Array]:
        rng = np.random.default_rng([self.seed, 99])
        sizes = [len(d.choices) for d in self.space.values()]
        parts = np.array([self._parts(rng.integers(sizes)) for _ in range(2_000)])
        return parts.mean(axis=0), parts.std(axis=0)


@lru_cache(maxsize=20_000)
def _wide_costs(values: tuple[Any, ...]) -> tuple[float, float]:
    alpha, resolution, stem, head, *stages = values
    side = resolution / 2
    channels = max(8.0, stem * alpha)
    weights = 27 * channels
    operations = weights * side * side
    for stage, (nominal, reduction) in enumerate(zip(WIDE_CHANNELS, WIDE_SIDES, strict=True)):
        repeats, kernel, expansion, squeeze = stages[4 * stage : 4 * stage + 4]
        side = resolution / 2 / reduction
        out = max(8.0, nominal * alpha)
        for _ in range(repeats):
            hidden = channels * expansion
            layer = hidden * (channels + kernel * kernel + out)
            weights += layer + 2 * squeeze * hidden * hidden
            operations += layer * side * side + 2 * squeeze * hidden * hidden
            channels = out
    last = channels * head
    return operations + last * side * side + head * 100, weights + last + head * 100


@lru_cache(maxsize=20_000)
def _layer_costs(values: tuple[Any, ...]) -> tuple[float, float]:
    alpha, resolution, *layers = values
    channels, side = max(8.0, 32 * alpha), resolution / 2
    weights = 27 * channels
    operations = weights * side * side
    for i, name in enumerate(layers):
        kernel, expansion = OPERATIONS[name]
        out = max(8.0, LAYER_CHANNELS[i // 5] * alpha)
        side = resolution / 2 / 2 ** (i // 5)
        hidden = channels * expansion
        layer = hidden * (channels + kernel * kernel + out)
        weights += layer
        operations += layer * side * side
        channels = out
    last = channels * 640
    return operations + last * side * side + 64_000, weights + last + 64_000
