"""A network in int8 as TensorFlow Lite specifies it: weights by output channel, maps by tensor.

Ranges of the maps are those of training images, as for the ONNX file. A real number is
``scale * (q - zero_point)`` for an integer q from -128 to 127.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from mbsearch.data.batches import Split, batches
from mbsearch.export.operators import IMAGE, Operator, operators_of, run_operators
from mbsearch.space.architecture import Architecture

LOWEST, HIGHEST = -128, 127
_BATCH = 16
_EXAMPLES = 100
_LARGEST_BIAS = 2**30
_UNCHANGED = ("pad", "reshape")
"""Operators whose output has the quantisation of their input."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Scale and zero point of a feature map."""

    scale: float
    zero_point: int

    @classmethod
    def of(cls, low: float, high: float) -> Self:
        """Return the quantisation that covers a range, and 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (HIGHEST - LOWEST) or 1.0
        return cls(scale, max(LOWEST, min(HIGHEST, round(LOWEST - low / scale))))

    def quantise(self, x: Tensor) -> Tensor:
        """Return the integers of real numbers, clipped to int8."""
        return (x / self.scale).round().add(self.zero_point).clamp(LOWEST, HIGHEST).to(torch.int8)

    def real(self, q: Tensor) -> Tensor:
        """Return the real numbers of integers."""
        return (q.float() - self.zero_point) * self.scale


_UNIT = Quantisation.of(0.0, 1.0)
_LOGISTIC = Quantisation(1 / 256, LOWEST)
"""Output of the operator LOGISTIC: TensorFlow Lite allows no other."""


@dataclass(frozen=True, slots=True)
class Int8Weights:
    """Integers of an operator: int8 weights in torch's layout, int32 biases, scales by channel."""

    values: Tensor
    bias: Tensor
    scales: Tensor
    bias_scales: Tensor


@dataclass(frozen=True, slots=True)
class Int8Network:
    """Operators, and the quantisation of each map by its name.

    `examples` are training images (N, 3, H, W), normalised, that a written file is checked with.
    """

    operators: tuple[Operator, ...]
    quantisations: Mapping[str, Quantisation]
    examples: Tensor

    @property
    def input(self) -> Quantisation:
        """Quantisation of the images."""
        return self.quantisations[IMAGE]

    @property
    def output(self) -> Quantisation:
        """Quantisation of the logits."""
        return self.quantisations[self.operators[-1].name]

    @torch.inference_mode()
    def weights(self, operator: Operator) -> Int8Weights:
        """Return the integers of a convolution.

        A scale is at least so large that the channel's bias fits into an int32.
        """
        assert operator.weight is not None
        assert operator.bias is not None
        x_scale = self.quantisations[operator.inputs[0]].scale
        largest = operator.weight.double().abs().amax((1, 2, 3))
        bias = operator.bias.double()
        scales = torch.maximum(largest / HIGHEST, bias.abs() / (x_scale * _LARGEST_BIAS))
        scales = torch.where(scales > 0, scales, 1.0).float().double()  # as the file stores them
        values = (operator.weight.double() / scales[:, None, None, None]).round()
        bias_scales = (scales * x_scale).float()
        return Int8Weights(
            values.clamp(-HIGHEST, HIGHEST).to(torch.int8),
            (bias / bias_scales.double()).round().to(torch.int32),
            scales.float(),
            bias_scales,
        )

    @torch.inference_mode()
    def rounded_operators(self) -> list[Operator]:
        """Return the operators with the real numbers of their int8 weights."""
        return [each if each.weight is None else self._rounded(each) for each in self.operators]

    @torch.inference_mode()
    def simulate(self, images: Tensor) -> Tensor:
        """Return the logits of normalised images, each map and weight rounded as in int8."""

        def observe(name: str, x: Tensor) -> Tensor:
            quantisation = self.quantisations[name]
            return quantisation.real(quantisation.quantise(x))

        return run_operators(self.rounded_operators(), images, observe)

    def _rounded(self, operator: Operator) -> Operator:
        weights = self.weights(operator)
        return replace(
            operator,
            weight=weights.values * weights.scales[:, None, None, None],
            bias=weights.bias * weights.bias_scales,
        )


@torch.inference_mode()
def int8_network(architecture: Architecture, module: nn.Module, train: Split) -> Int8Network:
    """Quantise a network; the ranges of its maps are those of the images in `train`.

    `architecture` has the resolution of these images.
    """
    operators = operators_of(architecture, module)
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}

    def observe(name: str, x: Tensor) -> Tensor:
        lows[name] = min(lows.get(name, 0.0), float(x.min()))
        highs[name] = max(highs.get(name, 0.0), float(x.max()))
        return x

    for images, *_ in batches(train, _BATCH):
        run_operators(operators, images.contiguous(), observe)
    found = {name: Quantisation.of(lows[name], highs[name]) for name in lows}
    for operator in operators:
        if operator.kind in _UNCHANGED:
            found[operator.name] = found[operator.inputs[0]]
        elif operator.kind == "logistic":
            found[operator.name] = _LOGISTIC
        elif operator.activation == "unit":
            found[operator.name] = _UNIT
    step = -(-len(train) // _EXAMPLES)  # images are sorted by class: take some of each
    examples = next(
        batches(
            replace(train, images=train.images[::step], labels=train.labels[::step], taught=None),
            _EXAMPLES,
        )
    )
    return Int8Network(tuple(operators), found, examples.images.contiguous())
