"""Depthwise convolution with fast gradients for all kernel sizes, strides and precisions.

On a CPU, oneDNN computes the filter gradient fast only for 3 x 3 kernels on maps that are at least
as large. Otherwise it takes up to 20 times as long as the rest of the layer (docs/throughput.md).
In bfloat16 with a stride longer than the map, it does not write the gradient of taps that only meet
the padding. It has no fast input gradient for strided layers in bfloat16. On a GPU, cuDNN compiles
code for each new shape, which takes seconds per network; torch's own CUDA code does not. The
results are those of `nn.Conv2d`, up to the order of summation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.backends import cudnn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from mbsearch.accel.kernels import steps as kernels
from mbsearch.accel.kernels.jit import Pair, Stored


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution without bias, padded by half its kernel size."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        device = input.device.type
        on_cpu = self.training and device == "cpu" and input.dtype in kernels.DTYPES
        if not (on_cpu or device == "cuda"):
            return super().forward(input)
        x, weight = input, self.weight
        if torch.is_autocast_enabled(device):
            precision = torch.get_autocast_dtype(device)
            x, weight = x.to(precision), weight.to(precision)
        convolve = _Depthwise if on_cpu else _WithoutCudnn
        y: Tensor = convolve.apply(x, weight, self.stride, self.padding)
        return y if self.bias is None else y + self.bias.to(y.dtype).view(-1, 1, 1)


class _Depthwise(torch.autograd.Function):
    """Autograd function of a depthwise convolution; uses our kernels where oneDNN is slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        place = (ctx.stride, ctx.padding)
        x_grad = _input_grad(x, weight, grad, *place) if ctx.needs_input_grad[0] else None
        return x_grad, _filter_grad(x, weight, grad, *place), None, None


class _WithoutCudnn(torch.autograd.Function):
    """Autograd function of a depthwise convolution by torch's CUDA code, without cuDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        with cudnn.flags(enabled=False):
            return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        x_needs, weight_needs, *_ = ctx.needs_input_grad
        with cudnn.flags(enabled=False):
            x_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
                grad,
                x,
                weight,
                None,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                len(weight),
                (x_needs, weight_needs, False),
            )
        return x_grad, weight_grad, None, None


def _input_grad(x: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    if stride == (1, 1):
        x_grad: Tensor = conv2d_input(  # type: ignore[no-untyped-call]
            x.shape, weight, grad, stride, padding, groups=len(weight)
        )
        return x_grad
    out = kernels.new_map(x)
    taps = weight.squeeze(1).permute(1, 2, 0).float().contiguous().numpy()
    kernels.input_gradient(_pixels(grad), taps, stride, padding, _pixels(out))
    return out


def _filter_grad(x: Tensor, weight: Tensor, grad: Tensor, stride: Pair, padding: Pair) -> Tensor:
    channels, _, kh, kw = weight.shape
    if (kh, kw) == (3, 3) and min(x.shape[2:]) >= 3 and max(stride) <= 2:
        w_grad: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]
            x, weight.shape, grad, stride, padding, groups=channels
        )
        return w_grad
    taps = np.empty((kh, kw, channels), np.float32)
    kernels.filter_gradient(_pixels(x), _pixels(grad), stride, padding, taps)
    return torch.from_numpy(taps).permute(2, 0, 1).unsqueeze(1).to(weight.dtype)


def _pixels(x: Tensor) -> Stored:
    """Return a tensor (N, C, H, W) as an array (N, H, W, C); no copy if it is channels last."""
    return kernels.stored(x.permute(0, 2, 3, 1))
