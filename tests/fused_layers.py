"""Build torch convolutions, and accelerate them for a CPU."""

from __future__ import annotations

import torch
from torch import nn

from mbsearch.accel.fusion import fuse

Pair = tuple[int, int]


def depthwise(channels: int, kernel: Pair, stride: Pair) -> nn.Conv2d:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return fused(
        nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False)
    )


def pointwise(c_in: int, c_out: int) -> nn.Conv2d:
    return fused(nn.Conv2d(c_in, c_out, 1, bias=False))


def fused(conv: nn.Conv2d) -> nn.Conv2d:
    fuse(conv)
    assert type(conv) is not nn.Conv2d
    return conv


def accelerated(network: nn.Module) -> nn.Module:
    fuse(network)
    return network.to(memory_format=torch.channels_last)
