"""Let a network inherit the leading channels of a donor's weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Block, Conv
from mbsearch.training.donors.files import TrainedDonor

_PARTS = {"stem": 1, "stages": 4, "head": 2}
"""Number of words in a parameter's name that identify its layer."""
_CLASSIFIER = "head.classifier."


def donated(
    architecture: Architecture, network: nn.Module, donor: TrainedDonor
) -> dict[str, Tensor]:
    """Return the values that each parameter and running statistic inherits, by name.

    It is the leading part: the first, most important channels. If the candidate is wider, it is
    smaller than the parameter. Kernels are cropped to their centre, or padded with zeros. Stages
    correspond by their position among those of the same total stride, blocks by their position in
    the stage if they have the same convolutions. Layers of the head correspond if all layers before
    them do. The classifier is inherited only for the same number of classes.

    Args:
        architecture: architecture of the candidate.
        network: its module; a `skeleton` is enough.
        donor: donor with sorted channels.
    """
    twins = dict(_layer_pairs(architecture, donor.architecture))
    given = {}
    for name, target in _tensors(network).items():
        words = name.split(".")
        length = _PARTS[words[0]]
        twin = twins.get(".".join(words[:length]))
        if twin is None:
            continue
        source = donor.state.get(".".join((twin, *words[length:])))
        if source is None or (name.startswith(_CLASSIFIER) and len(source) != len(target)):
            continue
        given[name] = _leading(source, target.shape)
    return given


def inherited_share(network: nn.Module, given: Mapping[str, Tensor]) -> float:
    """Return the share of a network's parameter values that are inherited.

    Running statistics do not count.

    Args:
        network: a `skeleton` is enough.
        given: see `donated`.
    """
    parameters = dict(network.named_parameters())
    copied = sum(values.numel() for name, values in given.items() if name in parameters)
    return copied / sum(parameter.numel() for parameter in parameters.values())


@torch.no_grad()
def copy_inherited(network: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Copy inherited values into a network; leave all others unchanged."""
    tensors = _tensors(network)
    for name, values in given.items():
        tensors[name][tuple(map(slice, values.shape))] = values


def inherit_from(architecture: Architecture, network: nn.Module, donor: TrainedDonor) -> float:
    """Copy inherited values into a network, and return their share of its parameters.

    Args:
        architecture: architecture of the network.
        network: changed in place.
        donor: donor with sorted channels.
    """
    given = donated(architecture, network, donor)
    copy_inherited(network, given)
    return inherited_share(network, given)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.named_parameters()) | dict(network.named_buffers())


def _leading(source: Tensor, shape: torch.Size) -> Tensor:
    """Return the first channels of a weight, with its kernels cropped or padded to `shape`."""
    if source.shape[2:] != shape[2:]:
        borders = [(size - own) // 2 for size, own in zip(shape[2:], source.shape[2:], strict=True)]
        source = F.pad(source, [b for border in reversed(borders) for b in (border, border)])
    return source[tuple(map(slice, shape))]


def _layer_pairs(ours: Architecture, theirs: Architecture) -> Iterator[tuple[str, str]]:
    """Yield pairs of corresponding layers: the network's name and the donor's name."""
    own, other = ours.lower(), theirs.lower()
    if own.in_channels == other.in_channels:
        yield "stem", "stem"
    places = _places(theirs)
    for place, i in _places(ours).items():
        k = places.get(place)
        if k is None:
            continue
        for j, (block, twin) in enumerate(zip(own.stages[i], other.stages[k], strict=False)):
            for name, counterpart in _layers(block, twin):
                yield f"stages.{i}.{j}.{name}", f"stages.{k}.{j}.{counterpart}"
    for layer, given in zip(own.head, other.head, strict=False):
        if layer.name != given.name:
            return
        yield f"head.{layer.name}", f"head.{layer.name}"


def _layers(block: Block, twin: Block) -> Iterator[tuple[str, str]]:
    """Yield pairs of corresponding layer names in two blocks; none if the blocks differ.

    Blocks correspond if they have the same convolutions: as many, each pointwise or depthwise, with
    or without an activation. So a linear separable block is an inverted residual of expansion 1.
    """
    own, other = ([layer for layer in b.body if isinstance(layer, Conv)] for b in (block, twin))
    if [_role(conv) for conv in own] != [_role(conv) for conv in other]:
        return
    yield from ((conv.name, given.name) for conv, given in zip(own, other, strict=True))
    gates = {layer.name for layer in twin.body} - {conv.name for conv in other}
    yield from ((layer.name, layer.name) for layer in block.body if layer.name in gates)


def _role(conv: Conv) -> tuple[bool, bool, bool]:
    return conv.depthwise, conv.kernel == (1, 1), conv.activation is None


def _places(architecture: Architecture) -> dict[tuple[int, int], int]:
    """Return each stage's index in the program, by total stride and position at that stride.

    A stage that is left out keeps its position.
    """
    lowered = {index: i for i, index in enumerate(architecture.lower().stage_indices)}
    places, stride, before = {}, architecture.stem.stride, Counter[int]()
    for index, stage in enumerate(architecture.stages):
        stride *= stage.stride
        if index in lowered:
            places[stride, before[stride]] = lowered[index]
        before[stride] += 1
    return places
