"""Depthwise convolution that stays fast where the map is smaller than the filter.

Proxies train on small images, whose last maps have one to four pixels a side. There oneDNN takes
up to 20 times as long for the filter's gradient as for all else of the layer (docs/throughput.md),
so training on a CPU computes it tap by tap, and leaves out taps that can only ever meet the
padding. The results are those of `nn.Conv2d`, up to the order of summation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

Pair = tuple[int, int]


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution without bias, padded by half its kernel."""

    def __init__(self, channels: int, kernel: Pair, stride: Pair) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(
            channels, channels, kernel, stride, padding=padding, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        _, _, height, width = input.shape
        kh, kw = self.kernel_size
        is_small = max(height, width) < max(kh, kw)
        if not (is_small and self.training and input.device.type == "cpu"):
            return super().forward(input)
        # The pixel at one border reaches to the other, and not beyond.
        reach_h, reach_w = min(kh // 2, height - 1), min(kw // 2, width - 1)
        trim_h, trim_w = kh // 2 - reach_h, kw // 2 - reach_w
        weight = self.weight[:, :, trim_h : kh - trim_h, trim_w : kw - trim_w]
        y: Tensor = _SmallMap.apply(input, weight, self.stride, (reach_h, reach_w))
        return y


class _SmallMap(torch.autograd.Function):
    """Depthwise convolution whose filter gradient is a sum of products of shifted maps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        grad_x: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
            x.shape, weight, grad, ctx.stride, ctx.padding, groups=len(weight)
        )
        return grad_x, _weight_grad(x, weight, grad, ctx.stride, ctx.padding), None, None


def _weight_grad(x: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    channels, _, kh, kw = weight.shape
    x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)  # (N, H, W, C), dense
    taps = x.new_zeros(kh, kw, channels)
    for i in range(kh):
        in_rows, out_rows = _meeting(i - padding[0], stride[0], x.shape[1], grad.shape[1])
        for j in range(kw):
            in_cols, out_cols = _meeting(j - padding[1], stride[1], x.shape[2], grad.shape[2])
            taps[i, j] = (x[:, in_rows, in_cols] * grad[:, out_rows, out_cols]).sum((0, 1, 2))
    return taps.permute(2, 0, 1).unsqueeze(1)


def _meeting(offset: int, stride: int, side_in: int, side_out: int) -> tuple[slice, slice]:
    """Inputs that a tap reads inside the map, and the outputs that it reads them for."""
    first = max(0, -(offset // stride))
    last = min(side_out - 1, (side_in - 1 - offset) // stride)
    if last < first:
        return slice(0), slice(0)
    start = first * stride + offset
    return slice(start, start + (last - first) * stride + 1, stride), slice(first, last + 1)
