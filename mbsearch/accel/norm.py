"""Batch normalisation and the activation after it as one step, for training on a CPU.

PyTorch goes over a map six times for them and eight times back, mostly at the speed of memory; the
kernels go over it three times and five times back (docs/throughput.md). The results are those of
`nn.BatchNorm2d` and `nn.ReLU6`, up to rounding.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mbsearch.accel.kernels import steps as kernels
from mbsearch.accel.kernels.jit import Stored, Values

# A map of few channels is seen as one of fewer, wider rows, of about so many values.
_ROW = 96
_MOST_THREADS = 2

Limits = tuple[float, float]


def limits(activation: nn.Module) -> Limits | None:
    """Between what an activation keeps its values, where that is all it does."""
    match activation:
        case _ if is_hooked(activation):
            return None
        case nn.Identity():
            return -math.inf, math.inf
        case nn.ReLU6():
            return 0.0, 6.0
        case nn.ReLU():
            return 0.0, math.inf
        case _:
            return None


def normalize(x: Tensor, norm: nn.Module, activation: nn.Module) -> Tensor:
    """Batch normalisation of a map (N, C, H, W), then an activation.

    In one step where that is in training, on a CPU and of a precision that the kernels know.
    """
    kept = limits(activation)
    if kept is None or not is_known(norm) or not _fits(x):
        y: Tensor = activation(norm(x))
        return y
    count_batch(norm)
    normalised: Tensor = _NormalizeAndClip.apply(x, norm.weight, norm.bias, norm, kept)
    return normalised


def is_known(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether the kernels do the same: a batch norm in training, with weights and moving means."""
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.training
        and norm.affine
        and norm.running_mean is not None
        and norm.momentum is not None
        and not is_hooked(norm)
    )


def is_hooked(module: nn.Module) -> bool:
    """Whether someone listens to a module, who would not hear of what the kernels do for it."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def count_batch(norm: nn.BatchNorm2d) -> None:
    """Note that a batch normalisation has seen a batch, as torch does."""
    if (batches := norm.num_batches_tracked) is not None:
        batches.add_(1)


def _fits(x: Tensor) -> bool:
    # One pixel has no variance: that is for torch to refuse. Its own steps share their work between
    # threads: with two they are about as fast as a kernel's one.
    return (
        x.device.type == "cpu"
        and x.dtype in kernels.DTYPES
        and x.numel() > x.shape[1]
        and torch.get_num_threads() <= _MOST_THREADS
    )


class _NormalizeAndClip(torch.autograd.Function):
    """What batch statistics make of a map, kept between two limits."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, kept: Limits
    ) -> Tensor:
        y, ctx.terms, ctx.kept = kernels.new_map(x), np.empty((4, len(weight)), np.float32), kept
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        kernels.normalize(
            _rows(x),
            _values(weight),
            _values(bias),
            norm.eps,
            *kept,
            norm.momentum,
            _values(norm.running_mean),
            _values(norm.running_var),
            _rows(y),
            ctx.terms,
        )
        ctx.save_for_backward(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (x,) = ctx.saved_tensors
        x_grad, grads = kernels.new_map(x), np.empty((2, x.shape[1]), np.float32)
        low, high = ctx.kept
        kernels.normalize_back(_rows(x), _rows(grad), ctx.terms, low, high, _rows(x_grad), grads)
        weight_grad, bias_grad = torch.from_numpy(grads)
        return x_grad, weight_grad, bias_grad, None, None


def _values(channels: Tensor) -> Values:
    values: Values = channels.detach().numpy()
    return values


def _rows(x: Tensor) -> Stored:
    """A map (N, C, H, W) as rows of one or more pixels: its own memory where channels come last."""
    channels = x.shape[1]
    pixels, fold = x.numel() // channels, 1
    while fold * channels < _ROW and pixels % (2 * fold) == 0:
        fold *= 2
    return kernels.stored(x.permute(0, 2, 3, 1).reshape(-1, fold * channels))
