"""Shared weights of a supernet, which contain the weights of every candidate of a space.

A candidate's weights are the leading slices of shared ones, layer by layer. Two layers share
weights if they have the same kernel and the same place (stage, repeat, name) in a block of the same
type; they may differ in channels. With `centred` kernels the smaller ones are the centres of larger
ones, as in once-for-all networks (arXiv 1908.09791, section 3.2). The shapes come from sampled
candidates. If a rare candidate is larger, the rest of its weights is fresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

import torch
from torch import Tensor, nn

from mbsearch.config.proxy_settings import Proxy
from mbsearch.space.architecture import Architecture
from mbsearch.training.network import CLASSIFIER_STD, skeleton

Shared = Mapping[str, Tensor]
"""Shared weights by name."""


def thinner(architecture: Architecture, proxy: Proxy) -> Architecture:
    """Return a candidate's architecture with `alpha` scaled by the proxy's `width_scale`."""
    if proxy.width_scale == 1:
        return architecture
    return architecture.replace(alpha=architecture.alpha * proxy.width_scale)


def shared_names(
    architecture: Architecture, network: nn.Module, *, centred: bool = False
) -> dict[str, str]:
    """Return the name of the shared weight for each parameter of a network.

    With `centred` kernels an inverted residual of expansion 1 shares the weights of a separable
    block, which has the same layers.
    """
    program = architecture.lower()
    names = {}
    for name, _ in network.named_parameters():
        match name.split("."):
            case "stages", i, j, layer_name, *rest:
                block = program.stages[int(i)][int(j)]
                kind = block.kind
                if centred and kind == "inverted_residual" and block.body[0].name != "expansion":
                    kind = "separable"
                    layer_name = "pointwise" if layer_name == "projection" else layer_name
                stage = program.stage_indices[int(i)]
                place = ".".join(("stages", str(stage), j, kind, layer_name, *rest))
            case _:
                place = name
        layer = network.get_submodule(name.rsplit(".", 2)[0])
        conv = getattr(layer, "conv", None)
        kernel = "x".join(map(str, conv.kernel_size)) if isinstance(conv, nn.Conv2d) else ""
        kernel = "" if centred else kernel
        names[name] = f"{place} {kernel}".rstrip()
    return names


class WeightShapes:
    """Collects the largest shape of each shared weight over all added candidates."""

    def __init__(self, *, centred: bool = False) -> None:
        self._centred = centred
        self._shapes: dict[str, torch.Size] = {}
        self._owners: dict[str, nn.Module] = {}

    def add(self, candidate: Architecture, network: nn.Module) -> dict[str, str]:
        """Enlarge the shapes to include a candidate, and return its `shared_names`.

        The network may be a `skeleton`.
        """
        names = shared_names(candidate, network, centred=self._centred)
        for name, shared in names.items():
            shape = network.get_parameter(name).shape
            old = self._shapes.get(shared, shape)
            self._shapes[shared] = torch.Size(max(a, b) for a, b in zip(shape, old, strict=True))
            self._owners.setdefault(shared, network.get_submodule(name.rpartition(".")[0]))
        return names

    def draw(self, seed: int) -> dict[str, Tensor]:
        """Return randomly initialized shared weights of the largest shapes; see `build`."""
        generator = torch.Generator().manual_seed(seed)
        return {
            name: _fresh(self._owners[name], name, shape, generator)
            for name, shape in sorted(self._shapes.items())
        }


def fresh_weights(
    candidates: Iterable[Architecture], seed: int, *, centred: bool = False
) -> dict[str, Tensor]:
    """Return randomly initialized shared weights, large enough for all candidates."""
    shapes = WeightShapes(centred=centred)
    for candidate in candidates:
        shapes.add(candidate, skeleton(candidate))
    return shapes.draw(seed)


def _fresh(owner: nn.Module, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if "bias" in name:
        return torch.zeros(shape)
    match owner:
        case nn.Conv2d():
            area = shape[2] * shape[3]
            fan_out = area if owner.groups > 1 else area * shape[0]
            return torch.randn(shape, generator=generator) * sqrt(2 / fan_out)
        case nn.Linear():
            return torch.randn(shape, generator=generator) * CLASSIFIER_STD
        case _:
            return torch.ones(shape)


def slices(
    architecture: Architecture, network: nn.Module, shared: Shared, *, centred: bool = False
) -> dict[str, Tensor]:
    """Return views of the shared weights for each of a candidate's parameters, by name.

    A view is smaller than its parameter if the shared weight is.
    """
    return {
        name: part(shared[key], network.get_parameter(name).shape)
        for name, key in shared_names(architecture, network, centred=centred).items()
        if key in shared
    }


def part(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a view of a weight's first channels and the centre of its kernels."""
    view = weight[tuple(map(slice, shape[:2]))]
    for dimension, size in enumerate(shape[2:], start=2):
        own = view.shape[dimension]
        if size < own:
            view = view.narrow(dimension, (own - size) // 2, size)
    return view


@torch.no_grad()
def inherit(
    architecture: Architecture, network: nn.Module, shared: Shared, *, centred: bool = False
) -> None:
    """Copy a candidate's part of the shared weights into its network."""
    for name, view in slices(architecture, network, shared, centred=centred).items():
        part(network.get_parameter(name), view.shape).copy_(view)


def is_whole(network: nn.Module, views: Mapping[str, Tensor]) -> bool:
    """Return whether views of shared weights cover every parameter of a candidate; see `slices`."""
    return all(
        name in views and views[name].shape == parameter.shape
        for name, parameter in network.named_parameters()
    )
