"""Chains: consecutive convolutions and batch norms as one autograd function, on a CPU.

Layer by layer, training a small network mostly moves maps through memory: forward and back, a map
between two convolutions is read or written 28 times. In a chain it is 12 times
(docs/throughput.md). The results are those of the layers, up to the order of summation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mbsearch.accel.depthwise import DepthwiseConv2d
from mbsearch.accel.kernels import chain_depthwise, chain_norm, chain_pointwise
from mbsearch.accel.kernels.jit import Pair, Values
from mbsearch.accel.kernels.passes import WIDEST, Settings
from mbsearch.accel.norm import count_batch, is_hooked, is_known, limits, normalize
from mbsearch.accel.pointwise import PointwiseConv2d

_ROWS_OF_TERMS = 6
_NO_TERMS = np.empty((_ROWS_OF_TERMS, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Link:
    """One layer of a chain: a convolution, its batch norm and its activation."""

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    activation: nn.Module
    settings: Settings

    @property
    def uses_torch(self) -> bool:
        """Whether torch, not a kernel, computes the convolution."""
        return not isinstance(self.conv, PointwiseConv2d | DepthwiseConv2d)

    @property
    def has_no_activation(self) -> bool:
        """Whether the activation is the identity."""
        return self.settings[2:] == (-math.inf, math.inf)


def link(conv: nn.Conv2d, norm: nn.Module, activation: nn.Module, *, first: bool) -> Link | None:
    """Return a layer of a chain, or None if no kernel computes it.

    The convolution of the `first` link may be of any kind: torch computes it.
    """
    kept = limits(activation)
    if kept is None or not is_known(norm) or max(conv.in_channels, conv.out_channels) > WIDEST:
        return None
    assert norm.momentum is not None
    found = Link(conv, norm, activation, (norm.eps, norm.momentum, *kept))
    if found.uses_torch:
        return found if first else None
    return None if is_hooked(conv) else found


def fits(x: Tensor) -> bool:
    """Return whether the kernels accept `x`: one CPU thread, float32, several images.

    Torch's operations use several threads, the kernels do not.
    """
    return (
        x.device.type == "cpu"
        and torch.get_num_threads() == 1
        and x.dtype == torch.float32
        and x.shape[0] > 1  # one pixel has no variance; torch raises the error
        and not torch.is_autocast_enabled("cpu")
    )


def chained(links: Sequence[Link], x: Tensor) -> Tensor:
    """Return the output of consecutive links for the input `x` (N, C, H, W)."""
    parameters = [p for each in links for p in (each.conv.weight, each.norm.weight, each.norm.bias)]
    first = links[0]
    if first.uses_torch:
        x, parameters = first.conv(x), parameters[1:]
        if len(links) == 1:
            return normalize(x, first.norm, first.activation)
    for each in links:
        count_batch(each.norm)
    y: Tensor = _Chain.apply(x, tuple(links), *parameters)
    return y


class _Chain(torch.autograd.Function):
    """Autograd function of consecutive links; saves the maps before each normalization.

    If torch computes the first convolution, x is its output, and the first parameters are those of
    its norm. Torch allocates the maps, and frees them after backward. On the smallest maps half of
    the time passes between kernels, so each map is converted to an array only once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, links: tuple[Link, ...], *parameters: Tensor) -> Tensor:
        kept, seen, terms = [x], _pixels(x), _NO_TERMS
        ctx.starts = links[0].uses_torch
        if ctx.starts:
            first, *rest = links
            terms = np.empty((_ROWS_OF_TERMS, seen.shape[-1]), np.float32)
            chain_norm.start(_rows(seen), *_norm_arguments(first, *parameters[:2]), terms)
            links, parameters = tuple(rest), parameters[2:]
        ctx.terms, ctx.links, ctx.filters = [terms], links, []
        for each, weight, scale, shift in zip(
            links, parameters[::3], parameters[1::3], parameters[2::3], strict=True
        ):
            filters = _filters(each, weight)
            made, terms = _convolved(each, filters, seen, terms, scale, shift)
            seen = made.numpy()
            ctx.filters.append(filters)
            ctx.terms.append(terms)
            kept.append(made)
        y = torch.empty(seen.shape)
        chain_norm.activate(seen, terms, y.numpy())
        ctx.save_for_backward(*kept)
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *kept = ctx.saved_tensors
        maps = [_pixels(x), *(z.numpy() for z in kept)]
        last = maps[-1]
        given, sums = _pixels(grad), np.zeros((2, last.shape[-1]))
        passed = given if ctx.links[-1].has_no_activation else _new(last.shape)
        chain_norm.norm_sums(given, last, ctx.terms[-1], passed, sums)
        found: list[Tensor] = []
        for place in reversed(range(len(ctx.links))):
            x, z = maps[place : place + 2]
            terms, z_terms = ctx.terms[place : place + 2]
            conv, filters = ctx.links[place].conv, ctx.filters[place]
            x_grad, x_sums = _new(x.shape), np.zeros((2, x.shape[-1]))
            filters_grad, grads = np.empty_like(filters), np.empty_like(z_terms[:2])
            if isinstance(conv, DepthwiseConv2d):
                chain_depthwise.depthwise_backward(
                    passed,
                    z,
                    z_terms,
                    sums,
                    x,
                    terms,
                    filters,
                    _pair(conv),
                    x_grad,
                    filters_grad,
                    grads,
                    x_sums,
                )
            else:
                chain_pointwise.pointwise_backward(
                    _rows(passed),
                    _rows(z),
                    z_terms,
                    sums,
                    _rows(x),
                    terms,
                    filters,
                    _rows(x_grad),
                    filters_grad,
                    grads,
                    x_sums,
                )
            norm_grads = torch.from_numpy(grads)
            found = [_gradient(filters_grad, conv.weight), norm_grads[0], norm_grads[1], *found]
            passed, sums = x_grad, x_sums
        if ctx.starts:
            x_grad, grads = _new(x.shape), np.empty_like(ctx.terms[0][:2])
            chain_norm.start_backward(
                _rows(passed), _rows(x), ctx.terms[0], sums, _rows(x_grad), grads
            )
            norm_grads = torch.from_numpy(grads)
            found = [norm_grads[0], norm_grads[1], *found]
            passed = x_grad
        return torch.from_numpy(passed).permute(0, 3, 1, 2), None, *found


def _convolved(
    link: Link, filters: Values, x: Values, terms: Values, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Values]:
    """Return the output of a link's convolution, and the terms of its batch norm."""
    conv, norms = link.conv, _norm_arguments(link, scale, shift)
    images, height, width, _ = x.shape
    down, across = stride = _pair(conv)
    made = torch.empty((images, -(-height // down), -(-width // across), len(filters)))
    z, z_terms = made.numpy(), np.empty((_ROWS_OF_TERMS, len(filters)), np.float32)
    if isinstance(conv, DepthwiseConv2d):
        chain_depthwise.depthwise(x, terms, filters, stride, *norms, z, z_terms)
    else:
        chain_pointwise.pointwise(_rows(x), terms, filters, *norms, _rows(z), z_terms)
    return made, z_terms


def _norm_arguments(
    link: Link, scale: Tensor, shift: Tensor
) -> tuple[Values, Values, tuple[Values, Values], Settings]:
    """Return a kernel's batch-norm arguments: scale, shift, running moments, settings."""
    norm = link.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    running = norm.running_mean.numpy(), norm.running_var.numpy()
    return scale.detach().numpy(), shift.detach().numpy(), running, link.settings


def _filters(link: Link, weight: Tensor) -> Values:
    """Return a convolution's weights in the kernels' layout.

    The shape is (N, K) for a pointwise layer and (C, kh, kw) for a depthwise layer.
    """
    memory: Values = weight.detach().numpy()
    channels, depth, height, width = memory.shape
    is_depthwise = isinstance(link.conv, DepthwiseConv2d)
    shape = (channels, height, width) if is_depthwise else (channels, depth)
    return np.ascontiguousarray(memory.reshape(shape))


def _gradient(filters: Values, weight: Tensor) -> Tensor:
    """Return a gradient with the strides of `weight`, so that torch does not copy it."""
    gradient = torch.from_numpy(filters)
    if weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last):
        return gradient.as_strided(weight.shape, weight.stride())
    return gradient.view(weight.shape)


def _pair(conv: nn.Conv2d) -> Pair:
    down, across = conv.stride
    return down, across


def _new(shape: tuple[int, ...]) -> Values:
    """Return an empty array, allocated by torch so that it is aligned for vector code."""
    memory: Values = torch.empty(shape).numpy()
    return memory


def _pixels(x: Tensor) -> Values:
    """Return a tensor (N, C, H, W) as an array (N, H, W, C); no copy if it is channels last."""
    pixels: Values = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def _rows(pixels: Values) -> Values:
    """Return an array (N, H, W, C) as a matrix with one row per pixel."""
    return pixels.reshape(-1, pixels.shape[-1])
