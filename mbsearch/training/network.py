"""The layer program becomes a torch module; each layer keeps the name it has in the program."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from math import sqrt
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mbsearch.accel.chain import Link, chained, fits, link
from mbsearch.accel.depthwise import DepthwiseConv2d
from mbsearch.accel.norm import hooked, normalise
from mbsearch.accel.pointwise import PointwiseConv2d
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
# Torch's own values. The running statistics forget within some thirty steps, which suits short
# trainings; the papers' decays of 0.99 and more do not reach them.
BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.1

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hard_swish": nn.Hardswish,
}
GATES: dict[Gate, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid}


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation, then an optional activation."""

    def __init__(self, layer: Conv, c_in: int) -> None:
        super().__init__()
        self.conv = _conv(layer, c_in)
        self.norm: nn.Module = nn.BatchNorm2d(layer.channels, BATCH_NORM_EPS, BATCH_NORM_MOMENTUM)
        self.activation = _activation(layer.activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, channels, ceil(H / stride), ceil(W / stride))."""
        return normalise(self.conv(x), self.norm, self.activation)


class SqueezeExcitation(nn.Module):
    """Scale every channel by a gate that sees the mean of all channels (V3 paper, 5.3)."""

    def __init__(self, layer: SqueezeExcite, c_in: int) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(c_in, layer.squeezed, 1)
        self.activation = nn.ReLU(inplace=True)
        self.expansion = nn.Conv2d(layer.squeezed, c_in, 1)
        self.gate = GATES[layer.gate]()

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, C, H, W)."""
        means = x.mean((2, 3), keepdim=True)
        gate: Tensor = self.gate(self.expansion(self.activation(self.reduction(means))))
        return x * gate


class Chain(nn.Sequential):
    """Layers one after another; on a CPU, runs of convolutions train as one step."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to what the last layer gives."""
        return _run(self, x)


class GlobalPool(nn.Module):
    """Global average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        return x.mean((2, 3))


class Dense(nn.Linear):
    """Fully connected layer with bias, then an optional activation."""

    def __init__(self, layer: Linear, c_in: int) -> None:
        super().__init__(c_in, layer.features)
        self.activation = _activation(layer.activation)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map (N, C) to (N, features)."""
        y: Tensor = self.activation(super().forward(input))
        return y


class Residual(nn.Module):
    """Chain of layers with a shortcut around it; an optional activation follows the addition.

    The layers are direct children under their own names; an empty shortcut is the identity.
    """

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

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the shape of the last layer of the body."""
        y = _run((self.get_submodule(name) for name in self.body_names), x)
        skip = _run((self.get_submodule(name) for name in self.shortcut_names), x)
        out: Tensor = self.activation(y + skip)
        return out


class Network(nn.Sequential):
    """Stem, stages and head."""

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, num_classes)."""
        # In training, runs of convolutions do not end where a block does.
        return _run(_layers_of(self) if self.training else self.children(), x)


def _layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """Layers and residual blocks in their order; a module that has hooks stays whole."""
    for child in module.children():
        if type(child) in (nn.Sequential, Chain) and not hooked(child):
            yield from _layers_of(child)
        else:
            yield child


def _run(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    links: list[Link] = []
    for layer in layers:
        known = _link(layer, x, links)
        if known is None and links:
            x, links = chained(links, x), []
            known = _link(layer, x, links)
        if known is None:
            x = layer(x)
        else:
            links.append(known)
    return chained(links, x) if links else x


def _link(layer: nn.Module, x: Tensor, before: Sequence[Link]) -> Link | None:
    """A layer as part of a chain, after the links `before` it, which start at x; else None."""
    if not layer.training or not isinstance(layer, Convolution) or hooked(layer):
        return None
    if not before and not fits(x):
        return None
    return link(layer.conv, layer.norm, layer.activation, first=not before)


def build(
    architecture: Architecture,
    *,
    num_classes: int | None = None,
    zero_init_residual: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Build the network of an architecture, with fresh weights drawn from `seed`.

    The module maps images (N, 3, H, W) to logits (N, num_classes), takes images of any size, and
    names its layers as `Architecture.layers` does. `num_classes` defaults to the architecture's
    own. `zero_init_residual` starts every residual branch at zero: the scale of its last batch
    normalisation is 0 (arXiv 1706.02677, section 5.1).

    Weights are drawn as in MnasNet's reference code, which EfficientNet took over: convolutions
    normal with variance 2 / fan-out, where a depthwise filter's fan-out is its own kernel area.
    Linear layers are normal with deviation 0.01, as torchvision draws V2's and V3's. Biases start
    at 0, batch normalisations at the identity.

    Raises:
        SpecError: `num_classes` is not positive.
    """
    if num_classes is not None:
        architecture = architecture.replace(num_classes=num_classes)
    network = skeleton(architecture).to_empty(device="cpu")
    _initialise(network, torch.Generator().manual_seed(seed))
    if zero_init_residual:
        _zero_residuals(network)
    return network


def skeleton(architecture: Architecture) -> nn.Module:
    """The network of an architecture without storage: its parameters have shapes, and no values.

    Torch's default draws would be thrown away, and would take their numbers from the generator
    that the whole process shares.
    """
    with torch.device("meta"):
        return _assemble(architecture.lower())


def fold_norms(network: nn.Module) -> nn.Module:
    """A network for evaluation, in which batch normalisations are parts of their convolutions.

    It shares all other weights with the network, and is used up before that is trained on. The
    outputs are those of the network in evaluation mode, up to rounding.
    """
    folded = _around_the_same_tensors(network).eval()
    for module in folded.modules():
        if isinstance(module, Convolution) and isinstance(module.norm, nn.BatchNorm2d):
            conv, norm = module.conv, module.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            module.norm = nn.Identity()
    return folded


def _around_the_same_tensors(network: nn.Module) -> nn.Module:
    """A new structure, made in a sixth of the time of a deep copy that knows what it shares."""
    new = copy(network)
    new._parameters, new._buffers = dict(network._parameters), dict(network._buffers)
    new._modules = {
        name: None if module is None else _around_the_same_tensors(module)
        for name, module in network._modules.items()
    }
    return new


def _assemble(program: Program) -> nn.Module:
    c = program.stem.channels
    stages = nn.Sequential()
    for stage in program.stages:
        blocks = nn.Sequential()
        for block in stage:
            module, c = _block(block, c)
            blocks.append(module)
        stages.append(blocks)
    head, _ = _chain(program.head, c)
    return Network(OrderedDict(stem=_layer(program.stem, 3), stages=stages, head=Chain(head)))


def _block(block: Block, c_in: int) -> tuple[nn.Module, int]:
    """A block's module and its output channels."""
    body, c_out = _chain(block.body, c_in)
    if block.shortcut is None:
        return Chain(body), c_out
    shortcut, _ = _chain(block.shortcut, c_in)
    return Residual(body, shortcut, block.activation), c_out


def _chain(layers: Iterable[Layer], c_in: int) -> tuple[OrderedDict[str, nn.Module], int]:
    """Modules by name of layers that follow one another, and the channels that leave the last."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    c = c_in
    for layer in layers:
        modules[layer.name] = _layer(layer, c)
        match layer:
            case Conv():
                c = layer.channels
            case Linear():
                c = layer.features
    return modules, c


def _layer(layer: Layer, c_in: int) -> nn.Module:
    match layer:
        case Conv():
            return Convolution(layer, c_in)
        case SqueezeExcite():
            return SqueezeExcitation(layer, c_in)
        case Pool():
            return GlobalPool()
        case Linear():
            return Dense(layer, c_in)
        case _:
            assert_never(layer)


def _conv(layer: Conv, c_in: int) -> nn.Conv2d:
    if layer.depthwise:
        return DepthwiseConv2d(c_in, layer.kernel, layer.stride)
    if layer.kernel == (1, 1) and layer.stride == (1, 1):
        return PointwiseConv2d(c_in, layer.channels)
    kh, kw = layer.kernel
    padding = (kh // 2, kw // 2)
    return nn.Conv2d(c_in, layer.channels, layer.kernel, layer.stride, padding, bias=False)


def _activation(name: Activation | None) -> nn.Module:
    return nn.Identity() if name is None else ACTIVATIONS[name](inplace=True)


@torch.no_grad()
def _initialise(network: nn.Module, generator: torch.Generator) -> None:
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


def last_norms(network: nn.Module) -> list[str]:
    """Names of the last batch normalisation of each residual branch."""
    found = []
    for name, block in network.named_modules():
        if isinstance(block, Residual):
            layers = (
                n for n in block.body_names if isinstance(block.get_submodule(n), Convolution)
            )
            *_, last = layers
            found.append(f"{name}.{last}.norm")
    return found
