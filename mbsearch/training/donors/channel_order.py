"""Sort a network's channels by importance; narrower networks inherit the first ones.

Once-for-all networks do the same before they train narrower ones (arXiv 1908.09791, section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

import torch
from torch import Tensor

from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Layer, Linear, Pool, Program, SqueezeExcite

Criterion = Literal["readers", "writers", "norms"]
"""Definition of a channel's importance; see `sort_channels`."""

_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(slots=True, eq=False)
class _Channels:
    """Channels that must be permuted together: of a residual stream or inside a block.

    `writers`, `readers` and `norms` name the weights that importance is computed from. `first` and
    `second` name all tensors with these channels in the first or second dimension.
    """

    writers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    first: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)

    def join(self, other: _Channels) -> None:
        """Add the tensor names of channels that the network sums with these."""
        self.writers += other.writers
        self.readers += other.readers
        self.norms += other.norms
        self.first += other.first
        self.second += other.second

    def importance(self, state: Mapping[str, Tensor], criterion: Criterion) -> Tensor:
        """Return the importance of each channel (C,); higher is more important."""
        match criterion:
            case "readers":
                weights = [state[name].transpose(0, 1) for name in self.readers]
            case "writers":
                weights = [state[name] for name in self.writers]
            case "norms":  # squeezed channels and hidden layers have none, and keep their order
                weights = [state[name] for name in self.norms]
            case _:
                assert_never(criterion)
        total = torch.zeros(len(state[self.writers[0]]))
        for weight in weights:
            total += weight.abs().reshape(len(total), -1).sum(1)
        return total


def sort_channels(
    architecture: Architecture, state: Mapping[str, Tensor], criterion: Criterion = "readers"
) -> dict[str, Tensor]:
    """Return a trained network's tensors with the channels sorted by importance, descending.

    Channels of a residual stream are permuted in every layer that writes, normalizes, gates or
    reads them. So the network's outputs stay the same up to rounding.

    Args:
        architecture: architecture of the network.
        state: its parameters and running statistics by name.
        criterion: ``readers``: sum of absolute weights of the convolutions and linear layers that
            read the channel. ``writers``: of those that produce it. ``norms``: absolute scale of
            the batch normalizations after these. Depthwise convolutions do not count, nor does
            squeeze-excite outside its own channels.
    """
    ordered = dict(state)
    for channels in _groups(architecture.lower()):
        order = channels.importance(ordered, criterion).argsort(descending=True, stable=True)
        for name in channels.first:
            ordered[name] = ordered[name].index_select(0, order)
        for name in channels.second:
            ordered[name] = ordered[name].index_select(1, order)
    return ordered


def _groups(program: Program) -> list[_Channels]:
    """Return the groups of channels that may be permuted.

    These are all but the image's channels and the classes.
    """
    image = _Channels()
    groups = [image]
    stream = _through((program.stem,), "", image, groups)
    for i, stage in enumerate(program.stages):
        for j, block in enumerate(stage):
            prefix = f"stages.{i}.{j}."
            out = _through(block.body, prefix, stream, groups)
            if block.shortcut is not None:
                skip = _through(block.shortcut, prefix, stream, groups)
                skip.join(out)
                groups.remove(out)
                out = skip
            stream = out
    classes = _through(program.head, "head.", stream, groups)
    return [group for group in groups if group is not image and group is not classes]


def _through(
    layers: Sequence[Layer], prefix: str, channels: _Channels, groups: list[_Channels]
) -> _Channels:
    """Return the output channels of consecutive layers, and add new channels to `groups`."""
    for layer in layers:
        name = prefix + layer.name
        match layer:
            case Conv(depthwise=True):
                channels.first += [f"{name}.conv.weight", *(f"{name}.norm.{t}" for t in _NORM)]
            case Conv():
                norm = [f"{name}.norm.{tensor}" for tensor in _NORM]
                channels = _read(channels, f"{name}.conv.weight", norm, groups)
                channels.norms.append(norm[0])
            case Linear():
                channels = _read(channels, f"{name}.weight", [f"{name}.bias"], groups)
            case SqueezeExcite():
                squeeze, excite = f"{name}.reduction", f"{name}.expansion"
                groups.append(
                    _Channels(
                        writers=[f"{squeeze}.weight"],
                        readers=[f"{excite}.weight"],
                        first=[f"{squeeze}.weight", f"{squeeze}.bias"],
                        second=[f"{excite}.weight"],
                    )
                )
                channels.first += [f"{excite}.weight", f"{excite}.bias"]
                channels.second.append(f"{squeeze}.weight")
            case Pool():
                pass
            case _:
                assert_never(layer)
    return channels


def _read(
    channels: _Channels, weight: str, others: Sequence[str], groups: list[_Channels]
) -> _Channels:
    """Return the output channels of a layer with this `weight`, whose inputs are `channels`."""
    channels.readers.append(weight)
    channels.second.append(weight)
    groups.append(_Channels(writers=[weight], first=[weight, *others]))
    return groups[-1]
