"""Quantisation-aware fine-tuning: a short training that computes with the rounding of int8.

torch.ao.quantization is deprecated, and its successor torchao traces whole graphs for its own int8
files. Here the int8 file comes from onnxruntime, and the weights stay those of the layer program.
So the layers round themselves, by torch's `fake_quantize` operators, whose gradient is that of the
identity within the range (straight-through estimator; Jacob et al., arXiv 1712.05877).

Rounding is as in the int8 file: weights per output channel, symmetric, with batch normalisation
folded in; maps by one range a layer, after the activation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbsearch.config.retrain_settings import Retrain
from mbsearch.data.batches import Split, batches
from mbsearch.study.records import Epoch
from mbsearch.training.folding import copy_structure
from mbsearch.training.loop import EVALUATION_BATCH, Training
from mbsearch.training.network import (
    Dense,
    GlobalPool,
    PooledConvolution,
    Residual,
    SqueezeExcitation,
)

_WEIGHT_LIMIT = 127  # of int8, symmetric
_MAP_LEVELS = 255  # of uint8
_LEAST_RANGE = 1e-8  # a map of zeros has a scale above 0
_CLIPPING = (nn.ReLU, nn.ReLU6, nn.Identity)  # int8 applies them as it rounds
_ROUNDED = (Residual, SqueezeExcitation, GlobalPool)


class Rounding(nn.Module):
    """Round maps to 255 steps between the smallest and the largest value of calibration images.

    While `measures`, it records that range and returns maps unchanged. Weights are not rounded
    either then: the int8 file is calibrated in float32.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.measures = False
        self.low = torch.zeros((), device=device)
        self.high = torch.zeros((), device=device)

    def restart(self) -> None:
        """Forget the range, and record a new one."""
        self.measures = True
        self.low.zero_()
        self.high.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, rounded and clipped to the range."""
        if self.measures:
            low, high = x.detach().aminmax()
            torch.minimum(self.low, low, out=self.low)
            torch.maximum(self.high, high, out=self.high)
            return x
        scale = ((self.high - self.low) / _MAP_LEVELS).clamp(min=_LEAST_RANGE)
        zero = (-self.low / scale).round().to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, _MAP_LEVELS)


def rounded_weights(weight: Tensor) -> Tensor:
    """Return weights (channels, ...) rounded to int8 with a scale for each output channel."""
    scale = weight.detach().flatten(1).abs().amax(1).clamp(min=_LEAST_RANGE) / _WEIGHT_LIMIT
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(
        weight, scale, zero, 0, -_WEIGHT_LIMIT, _WEIGHT_LIMIT
    )


class RoundedConvolution(nn.Module):
    """A convolution with rounded weights and outputs.

    Batch normalisation, if there is one, is folded in with its running statistics.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        device: torch.device,
        norm: nn.BatchNorm2d | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm
        self.activation = activation or nn.Identity()
        clips = isinstance(self.activation, _CLIPPING)
        self.before = nn.Identity() if clips else Rounding(device)
        self.after = Rounding(device)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to a rounded map."""
        conv, (weight, bias) = self.conv, self._folded()
        if not self.after.measures:
            weight = rounded_weights(weight)
        y = F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        rounded: Tensor = self.after(self.activation(self.before(y)))
        return rounded

    def _folded(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias with the batch normalisation folded in."""
        conv, norm = self.conv, self.norm
        if norm is None:
            return conv.weight, conv.bias
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class RoundedPooledConvolution(RoundedConvolution):
    """A rounded convolution of pooled features."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C) to (N, features)."""
        return super().forward(x[:, :, None, None]).flatten(1)


class RoundedDense(nn.Module):
    """A fully connected layer with rounded weights and outputs."""

    def __init__(self, layer: Dense, device: torch.device) -> None:
        super().__init__()
        self.layer, self.after = layer, Rounding(device)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C) to (N, features)."""
        weight = self.layer.weight
        if not self.after.measures:
            weight = rounded_weights(weight)
        y = F.linear(x, weight, self.layer.bias)
        rounded: Tensor = self.after(self.layer.activation(y))
        return rounded


class RoundedNetwork(nn.Module):
    """A network that computes with the rounding of int8, and shares its parameters.

    Args:
        network: of plain layers, not accelerated, on the device.
        device: of the network.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.images = Rounding(device)
        self.layers = _rounded(copy_structure(network), device)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits; always in float32, as bfloat16 has a coarser rounding of its own."""
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.layers(self.images(x))
            return logits


def _rounded(module: nn.Module, device: torch.device) -> nn.Module:
    norm = getattr(module, "norm", None)
    if isinstance(norm, nn.BatchNorm2d):
        conv = module.get_submodule("conv")
        assert isinstance(conv, nn.Conv2d)
        pooled = isinstance(module, PooledConvolution)
        layer = RoundedPooledConvolution if pooled else RoundedConvolution
        return layer(conv, device, norm, module.get_submodule("activation"))
    if isinstance(module, nn.Conv2d):  # of a squeeze-and-excitation
        return RoundedConvolution(module, device)
    if isinstance(module, Dense):
        return RoundedDense(module, device)
    for name, child in list(module.named_children()):
        module.add_module(name, _rounded(child, device))
    if isinstance(module, _ROUNDED):
        return nn.Sequential(module, Rounding(device))
    return module


@torch.no_grad()
def calibrate(rounded: nn.Module, split: Split, device: torch.device) -> None:
    """Set the ranges of a rounded network's maps to those of a split's images."""
    roundings = [each for each in rounded.modules() if isinstance(each, Rounding)]
    for each in roundings:
        each.restart()
    for batch in batches(split, EVALUATION_BATCH, device=device):
        rounded(batch.images)
    for each in roundings:
        each.measures = False


@dataclass
class QuantizationAwareTraining(Training):
    """Fine-tuning of a trained network with the rounding of int8.

    Running statistics of batch normalisation are kept. The ranges of maps are measured on the
    images in `calibration` before every epoch.
    """

    calibration: Split = field(kw_only=True)

    def __post_init__(self) -> None:
        # Made of plain layers: the acceleration that follows changes their classes.
        self.network.to(self.device)
        rounded = RoundedNetwork(self.network, self.device)
        super().__post_init__()
        self._forward = rounded

    @property
    def repeats(self) -> bool:
        """False: ranges change between epochs."""
        return False

    def run_epoch(self) -> Epoch:
        """Measure the ranges of maps, then train for one epoch.

        Raises:
            EvaluationError: the loss is not finite.
        """
        calibrate(self._forward, self.calibration, self.device)
        return super().run_epoch()


def fine_tune(network: nn.Module, trained: Training, recipe: Retrain, calibration: Split) -> None:
    """Fine-tune a network for int8 in place, on the images and device of its long training.

    Args:
        network: of plain layers, on the CPU, with the trained weights.
        trained: the long training.
        recipe: of the long training.
        calibration: images that measure the ranges of maps.

    Raises:
        EvaluationError: the loss is not finite.
    """
    tuning = recipe.fine_tuning()
    training = QuantizationAwareTraining(
        network,
        tuning,
        replace(trained.train_split, taught=None),
        None,
        trained.device,
        trained.seed,
        trained.flip,
        calibration=calibration,
    )
    for _ in range(tuning.epochs):
        training.run_epoch()
    network.eval().cpu()
