"""Replace the plain layers of a network by fused ones, and run convolutions as chains.

A layer is replaced by a change of its class. The new class has the same parameters, buffers and
submodules, so state dictionaries, copies and pickles stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, cast

from torch import Tensor, nn

from mbsearch.accel.chain import Link, chained, fits, link
from mbsearch.accel.depthwise import DepthwiseConv2d
from mbsearch.accel.norm import is_hooked, normalize
from mbsearch.accel.pointwise import PointwiseConv2d


class Branched(Protocol):
    """A module that runs its layers in order by calling its attribute `run_layers`."""

    run_layers: Callable[[Iterable[nn.Module], Tensor], Tensor]


class FusedConvolution(nn.Sequential):
    """Convolution, batch normalization and activation; the last two run as one step."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map (N, C, H, W) to the shape of the convolution's output."""
        conv, norm, activation = self
        return normalize(conv(input), norm, activation)


class FusedSequential(nn.Sequential):
    """A sequence of layers that runs consecutive convolutions as one step in training."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map the input to the last layer's output."""
        return run_layers(_flattened(self) if self.training else self, input)


def fuse(network: nn.Module) -> None:
    """Install fused layers in a network, in place."""
    for module in network.modules():
        if (fused := _fused_class(module)) is not None:
            module.__class__ = fused
        if "run_layers" in vars(module):
            cast(Branched, module).run_layers = run_layers


def run_layers(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run layers in order; in training, run consecutive fused convolutions as one chain."""
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


def _fused_class(module: nn.Module) -> type[nn.Module] | None:
    """Return the fused class for a module, or None if there is none.

    Subclasses are not fused.
    """
    if type(module) is nn.Conv2d:
        return _fused_convolution(module)
    if type(module) is not nn.Sequential:
        return None
    match list(module):
        case [nn.Conv2d(), nn.BatchNorm2d(), _]:
            return FusedConvolution
        case _:
            return FusedSequential


def _fused_convolution(conv: nn.Conv2d) -> type[nn.Module] | None:
    if conv.bias is not None or conv.dilation != (1, 1) or conv.padding_mode != "zeros":
        return None
    height, width = conv.kernel_size
    if conv.padding != (height // 2, width // 2):
        return None
    if conv.groups == conv.in_channels == conv.out_channels:
        return DepthwiseConv2d
    if conv.groups == 1 and conv.kernel_size == conv.stride == (1, 1):
        return PointwiseConv2d
    return None


def _flattened(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested sequences in order; a sequence with hooks is not split."""
    for child in module.children():
        if type(child) is FusedSequential and not is_hooked(child):
            yield from _flattened(child)
        else:
            yield child


def _link(layer: nn.Module, x: Tensor, before: Sequence[Link]) -> Link | None:
    """Return a layer as the next link of a chain, or None if it cannot be one.

    `before` are the links of the chain so far. If there are none, the chain would start at `x`.
    """
    if not layer.training or not isinstance(layer, FusedConvolution) or is_hooked(layer):
        return None
    if not before and not fits(x):
        return None
    conv, norm, activation = layer
    assert isinstance(conv, nn.Conv2d)
    return link(conv, norm, activation, first=not before)
