"""Build the torch network of an architecture from its layer program.

Each module has the name of its layer in the program.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import sqrt
from typing import assert_never

import torch
from torch import Tensor, nn

from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import (
    Activation,
    Block,
    Conv,
    Gate,
    Layer,
    Linear,
    Pool,
    Program,
    SqueezeExcite,
)

CLASSIFIER_STD = 0.01
# Torch's defaults. Running statistics forget within some thirty steps, which suits short trainings;
# the papers' decays of 0.99 and more do not converge in them.
BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
}
GATES: dict[Gate, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid}


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate computed from all channel means (MobileNetV3 paper, 5.3)."""

    def __init__(self, layer: SqueezeExcite, c_in: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(c_in, layer.squeezed, 1)
        self.activation = nn.ReLU(inplace=True)
        self.expansion = nn.Conv2d(layer.squeezed, c_in, 1)
        self.gate = GATES[layer.gate]()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (N, C, H, W) with each channel scaled by its gate."""
        means = x.mean((2, 3), keepdim=True)
        gate: Tensor = self.gate(self.expansion(self.activation(self.reduction(means))))
        return x * gate


class GlobalPool(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return x.mean((2, 3))


class PooledConvolution(nn.Sequential):
    """1x1 convolution of pooled features, batch normalization, then an optional activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C) to (N, features)."""
        return run_layers(self, x[:, :, None, None]).flatten(1)


class Dense(nn.Linear):
    """Fully connected layer with bias, then an optional activation."""

    def __init__(self, layer: Linear, c_in: int) -> None:
        super().__init__(c_in, layer.features)
        self.activation = _activation(layer.activation)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map (N, C) to (N, features)."""
        y: Tensor = self.activation(super().forward(input))
        return y


def run_layers(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run layers in order, and return the output of the last one."""
    for layer in layers:
        x = layer(x)
    return x


class Residual(nn.Module):
    """Residual block: layers with a shortcut, then an optional activation.

    The layers are direct children under their own names. An empty shortcut is the identity.
    `run_layers` may be replaced by a function that gives the same results.
    """

    run_layers: Callable[[Iterable[nn.Module], Tensor], Tensor]

    def __init__(
        self,
        body: OrderedDict[str, nn.Module],
        shortcut: OrderedDict[str, nn.Module],
        activation: Activation | None,
    ) -> None:
        super().__init__()
        for name, module in (body | shortcut).items():
            self.add_module(name, module)
        self.body_names = tuple(body)
        self.shortcut_names = tuple(shortcut)
        self.activation = _activation(activation)
        self.run_layers = run_layers

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to a tensor of the shape that the body returns."""
        y = self.run_layers(map(self.get_submodule, self.body_names), x)
        skip = self.run_layers(map(self.get_submodule, self.shortcut_names), x)
        out: Tensor = self.activation(y + skip)
        return out


def build(
    architecture: Architecture,
    *,
    num_classes: int | None = None,
    zero_init_residual: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Build an architecture's network with randomly initialized weights.

    The module maps images (N, C, H, W) of any size to logits (N, num_classes). Its layers have the
    names of `Architecture.layers`. Weights are drawn as in MnasNet's and EfficientNet's reference
    code: convolutions normal with variance 2 / fan-out, where the fan-out of a depthwise filter is
    its kernel area. Linear layers are normal with standard deviation 0.01, as in torchvision's V2
    and V3. Biases start at 0, batch normalizations at the identity.

    Args:
        architecture: what to build.
        num_classes: number of classes, if not the architecture's.
        zero_init_residual: start every residual branch that does not end in a ReLU at zero, by a
            scale of 0 in its last batch normalization (arXiv 1706.02677, section 5.1).
        seed: seed of the random weights.

    Raises:
        SpecError: `num_classes` is not positive.
    """
    if num_classes is not None:
        architecture = architecture.replace(num_classes=num_classes)
    network = skeleton(architecture).to_empty(device="cpu")
    _initialize(network, torch.Generator().manual_seed(seed))
    if zero_init_residual:
        _zero_residuals(network)
    return network


def skeleton(architecture: Architecture) -> nn.Module:
    """Build an architecture's network on the meta device, without memory for its parameters.

    Torch's default initialization would be wasted, and would draw from the global generator.
    """
    with torch.device("meta"):
        return _assemble(architecture.lower())


def last_norms(network: nn.Module) -> list[str]:
    """Return the names of the last batch normalization in each residual branch.

    Branches that end in a ReLU are left out. At a scale of 0 their gradient is 0, too, and they
    would stay zero.
    """
    found = []
    for name, block in network.named_modules():
        if isinstance(block, Residual):
            *_, last = (n for n in block.body_names if hasattr(block.get_submodule(n), "norm"))
            activation = block.get_submodule(last).get_submodule("activation")
            if not isinstance(activation, nn.ReLU | nn.ReLU6):
                found.append(f"{name}.{last}.norm")
    return found


def _assemble(program: Program) -> nn.Module:
    c = program.stem.channels
    stages = nn.Sequential()
    for stage in program.stages:
        blocks = nn.Sequential()
        for block in stage:
            module, c = _block(block, c)
            blocks.append(module)
        stages.append(blocks)
    head, _ = _layers(program.head, c)
    stem = _convolution(program.stem, program.in_channels)
    return nn.Sequential(OrderedDict(stem=stem, stages=stages, head=nn.Sequential(head)))


def _block(block: Block, c_in: int) -> tuple[nn.Module, int]:
    """Return a block's module and its number of output channels."""
    body, c_out = _layers(block.body, c_in)
    if block.shortcut is None:
        return nn.Sequential(body), c_out
    shortcut, _ = _layers(block.shortcut, c_in)
    return Residual(body, shortcut, block.activation), c_out


def _layers(layers: Iterable[Layer], c_in: int) -> tuple[OrderedDict[str, nn.Module], int]:
    """Return the modules of consecutive layers by name, and the number of output channels."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    c, pooled = c_in, False
    for layer in layers:
        modules[layer.name] = _layer(layer, c, pooled)
        match layer:
            case Conv():
                c = layer.channels
            case Linear():
                c = layer.features
            case Pool():
                pooled = True
    return modules, c


def _layer(layer: Layer, c_in: int, pooled: bool) -> nn.Module:
    match layer:
        case Conv():
            module = _convolution(layer, c_in)
            return PooledConvolution(OrderedDict(module.named_children())) if pooled else module
        case SqueezeExcite():
            return SqueezeExcitation(layer, c_in)
        case Pool():
            return GlobalPool()
        case Linear():
            return Dense(layer, c_in)
        case _:
            assert_never(layer)


def _convolution(layer: Conv, c_in: int) -> nn.Sequential:
    """Return a bias-free convolution, then batch normalization and an optional activation."""
    height, width = layer.kernel
    conv = nn.Conv2d(
        c_in,
        layer.channels,
        layer.kernel,
        layer.stride,
        padding=(height // 2, width // 2),
        groups=c_in if layer.depthwise else 1,
        bias=False,
    )
    norm = nn.BatchNorm2d(layer.channels, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM)
    return nn.Sequential(
        OrderedDict(conv=conv, norm=norm, activation=_activation(layer.activation))
    )


def _activation(name: Activation | None) -> nn.Module:
    return nn.Identity() if name is None else ACTIVATIONS[name](inplace=True)


@torch.no_grad()
def _initialize(network: nn.Module, generator: torch.Generator) -> None:
    for module in network.modules():
        match module:
            case nn.Conv2d():
                fan_out = module.out_channels * module.weight[0, 0].numel() / module.groups
                module.weight.normal_(0, sqrt(2 / fan_out), generator=generator)
            case nn.Linear():
                module.weight.normal_(0, CLASSIFIER_STD, generator=generator)
            case nn.BatchNorm2d():
                module.reset_parameters()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.zero_()


@torch.no_grad()
def _zero_residuals(network: nn.Module) -> None:
    for name in last_norms(network):
        nn.init.zeros_(network.get_submodule(name).get_parameter("weight"))
