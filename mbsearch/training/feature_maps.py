"""Networks as backbones that return feature maps at several strides."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from torch import Tensor, nn

from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Program
from mbsearch.training.network import build


class FeatureMaps(nn.Module):
    """The stem and stages of a network, which return the last feature map of each stride.

    The maps are a dictionary with keys such as ``"stride 4"``, finest first, as torchvision's
    detectors and feature pyramids expect. `strides` and `channels` describe them in the same order.
    Weights have the same names as in the whole network.
    """

    def __init__(self, stem: nn.Module, stages: nn.Module, program: Program) -> None:
        super().__init__()
        self.stem, self.stages = stem, stages
        taps = list(_taps(program))
        self.taps = {name: f"stride {stride}" for name, stride, _ in taps}
        self.strides = tuple(stride for _, stride, _ in taps)
        self.channels = tuple(channels for _, _, channels in taps)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the feature maps (N, channels, ceil(H / stride), ceil(W / stride)) of images.

        The images are (N, C, H, W).
        """
        maps = {}
        for name, block in self._blocks():
            x = block(x)
            if name in self.taps:
                maps[self.taps[name]] = x
        return maps

    def _blocks(self) -> Iterator[tuple[str, nn.Module]]:
        yield "stem", self.stem
        for i, stage in self.stages.named_children():
            for j, block in stage.named_children():
                yield f"stages.{i}.{j}", block


def build_features(architecture: Architecture, *, seed: int = 0) -> FeatureMaps:
    """Build a network's stem and stages, with the weights that `build` draws for `seed`."""
    network = build(architecture, seed=seed)
    stem, stages = network.get_submodule("stem"), network.get_submodule("stages")
    return FeatureMaps(stem, stages, architecture.lower())


def _taps(program: Program) -> Iterator[tuple[str, int, int]]:
    """Yield name, stride and channels of the last block of each stride."""
    name, stride, channels = "stem", program.stem.stride[0], program.stem.channels
    for i, stage in enumerate(program.stages):
        for j, block in enumerate(stage):
            convs = [layer for layer in block.body if isinstance(layer, Conv)]
            step = prod(conv.stride[0] for conv in convs)
            if step > 1:
                yield name, stride, channels
            name, stride, channels = f"stages.{i}.{j}", stride * step, convs[-1].channels
    yield name, stride, channels
