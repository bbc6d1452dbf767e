"""Find the units of a trained network that contribute nothing: dead kernels and silent channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from mbsearch.data.batches import Split, batches
from mbsearch.study.records import DeadUnits

IMAGES = 32
"""Validation images on which a channel must be 0. A pass over them costs at most 1 % of a trial."""
SMALL_NORM = 0.01
"""A kernel is dead if its norm is below this share of its layer's median norm."""


@torch.inference_mode()
def dead_units(network: nn.Module, split: Split, device: torch.device) -> DeadUnits:
    """Return the shares of dead depthwise kernels and silent channels of a trained network.

    Args:
        network: on `device`.
        split: the validation images, of which `IMAGES` are used.
        device: where the network runs.
    """
    kernels = [
        dead for conv in depthwise_convolutions(network) for dead in dead_kernels(conv).tolist()
    ]
    silent: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: silent.append(_is_silent(output)))
        for module in _activated(network)
    ]
    mode = network.training
    try:
        # Folding the batch normalisations would take longer than this pass.
        network.eval()(next(batches(_spread(split), IMAGES, device=device)).images)
    finally:
        network.train(mode)
        for hook in hooks:
            hook.remove()
    return DeadUnits(
        kernels=sum(kernels) / len(kernels) if kernels else None,
        channels=float(torch.cat(silent).float().mean()),
    )


def _spread(split: Split) -> Split:
    """Return `IMAGES` images at equal distances in a split, whose images are sorted by class."""
    chosen = torch.linspace(0, len(split) - 1, min(IMAGES, len(split))).long()
    return replace(split, images=split.images[chosen], labels=split.labels[chosen], taught=None)


def dead_kernels(conv: nn.Conv2d) -> Tensor:
    """Return whether each kernel of a depthwise convolution is dead, as booleans (C,)."""
    norms: Tensor = torch.linalg.vector_norm(conv.weight.detach().flatten(1), dim=1)
    return norms < SMALL_NORM * norms.median()


def depthwise_convolutions(network: nn.Module) -> Iterator[nn.Conv2d]:
    """Yield the depthwise convolutions of a network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            yield module


def _activated(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that end with an activation."""
    for module in network.modules():
        activation = getattr(module, "activation", None)
        if isinstance(getattr(module, "conv", None), nn.Conv2d) and not isinstance(
            activation, nn.Identity
        ):
            yield module


def _is_silent(output: Tensor) -> Tensor:
    """Return whether each channel of (N, C) or (N, C, H, W) is 0 everywhere, as booleans (C,)."""
    values = output.movedim(1, -1).flatten(0, -2)  # no copy: channels are last in memory
    return values.abs().sum(0) == 0
