"""Batch normalization and its activation as one step, for training on a CPU.

The time is that of memory accesses. PyTorch passes over a map six times forward and eight times
backward, the kernels three and five times (docs/throughput.md). The results are those of
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

# Least number of values in a row: several pixels of a map with few channels make one row.
_ROW = 96
_MOST_THREADS = 2

Limits = tuple[float, float]


def limits(activation: nn.Module) -> Limits | None:
    """Return an activation's clipping bounds; None if it is of another kind or has hooks."""
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
    """Return ``activation(norm(x))`` for `x` (N, C, H, W).

    In training on a CPU in float32 or bfloat16, both are one step.
    """
    kept = limits(activation)
    if kept is None or not is_known(norm) or not _fits(x):
        y: Tensor = activation(norm(x))
        return y
    count_batch(norm)
    normalised: Tensor = _NormalizeAndClip.apply(x, norm.weight, norm.bias, norm, kept)
    return normalised


def is_known(norm: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Return whether the kernels can compute a normalization layer.

    It must be a batch norm in training mode, with weights, running moments and no hooks.
    """
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.training
        and norm.affine
        and norm.running_mean is not None
        and norm.momentum is not None
        and not is_hooked(norm)
    )


def is_hooked(module: nn.Module) -> bool:
    """Return whether a module has hooks, which the kernels would not call."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def count_batch(norm: nn.BatchNorm2d) -> None:
    """Increment a batch norm's batch counter, as torch does."""
    if (batches := norm.num_batches_tracked) is not None:
        batches.add_(1)


def _fits(x: Tensor) -> bool:
    # One pixel has no variance; torch raises the error. Torch's operations on two threads are about
    # as fast as a kernel on one.
    return (
        x.device.type == "cpu"
        and x.dtype in kernels.DTYPES
        and x.numel() > x.shape[1]
        and torch.get_num_threads() <= _MOST_THREADS
    )


class _NormalizeAndClip(torch.autograd.Function):
    """Autograd function: batch normalization, then an activation that clips."""

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
        kernels.normalize_backward(
            _rows(x), _rows(grad), ctx.terms, low, high, _rows(x_grad), grads
        )
        weight_grad, bias_grad = torch.from_numpy(grads)
        return x_grad, weight_grad, bias_grad, None, None


def _values(channels: Tensor) -> Values:
    values: Values = channels.detach().numpy()
    return values


def _rows(x: Tensor) -> Stored:
    """Return `x` (N, C, H, W) as rows of one or more pixels; no copy if it is channels last."""
    channels = x.shape[1]
    pixels, fold = x.numel() // channels, 1
    while fold * channels < _ROW and pixels % (2 * fold) == 0:
        fold *= 2
    return kernels.stored(x.permute(0, 2, 3, 1).reshape(-1, fold * channels))
