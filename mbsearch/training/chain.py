"""Convolutions that follow one another, with their batch norms, as one step of a CPU's training.

Layer by layer, most of the time of a small network's training goes into moving maps through memory:
28 times for one between two convolutions, forward and back. A chain moves it 12 times
(docs/throughput.md). The results are those of the layers, up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mbsearch.training.depthwise import DepthwiseConv2d
from mbsearch.training.kernels import chain_depthwise, chain_norm, chain_pointwise
from mbsearch.training.kernels.passes import LEAST, MOST
from mbsearch.training.kernels.steps import Pair, Values, batch_terms
from mbsearch.training.norm import Limits, count_batch, hooked, is_known, limits
from mbsearch.training.pointwise import PointwiseConv2d

_ROWS_OF_TERMS = 6
_NO_TERMS = np.empty((_ROWS_OF_TERMS, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Link:
    """A convolution without bias, its batch norm, and between what the activation keeps values."""

    conv: PointwiseConv2d | DepthwiseConv2d
    norm: nn.BatchNorm2d
    kept: Limits


def link(conv: nn.Module, norm: nn.Module, activation: nn.Module) -> Link | None:
    """A convolution as part of a chain; None for one that the kernels do not know."""
    kept = limits(activation)
    if not isinstance(conv, PointwiseConv2d | DepthwiseConv2d) or hooked(conv):
        return None
    return Link(conv, norm, kept) if is_known(norm) and kept is not None else None


def fits(x: Tensor) -> bool:
    """Whether chains can start at a map: on one thread of a CPU, in float32, of several images.

    Torch's own steps share their work between threads, which the kernels do not.
    """
    return (
        x.device.type == "cpu"
        and torch.get_num_threads() == 1
        and x.dtype == torch.float32
        and len(x) > 1  # one pixel has no variance: that is for torch to refuse
        and not torch.is_autocast_enabled("cpu")
    )


def chained(links: Sequence[Link], x: Tensor) -> Tensor:
    """What links that follow one another make of a map (N, C, H, W)."""
    parameters = [p for each in links for p in (each.conv.weight, each.norm.weight, each.norm.bias)]
    for each in links:
        count_batch(each.norm)
    y: Tensor = _Chain.apply(x, tuple(links), *parameters)
    return y


class _Chain(torch.autograd.Function):
    """Links that follow one another; kept are the maps before each norm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, links: tuple[Link, ...], *parameters: Tensor) -> Tensor:
        maps, ctx.terms, ctx.links = [_pixels(x)], [_NO_TERMS], links
        ctx.filters = [_filters(each, w) for each, w in zip(links, parameters[::3], strict=True)]
        for each, filters, weight, bias in zip(
            links, ctx.filters, parameters[1::3], parameters[2::3], strict=True
        ):
            z, terms = _convolved(each, filters, maps[-1], ctx.terms[-1], weight, bias)
            maps.append(z)
            ctx.terms.append(terms)
        y = _new(maps[-1].shape)
        chain_norm.activate(maps[-1], ctx.terms[-1], y)
        # Given to torch, which lets go of them after the way back: the loss outlives the step.
        ctx.save_for_backward(x, *(_map(z) for z in maps[1:]))
        return _map(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps = [_pixels(z) for z in ctx.saved_tensors]
        last = maps[-1]
        passed, sums = _new(last.shape), np.zeros((2, last.shape[-1]))
        chain_norm.norm_sums(_pixels(grad), last, ctx.terms[-1], passed, sums)
        found: list[Tensor] = []
        for place in reversed(range(len(ctx.links))):
            x, z = maps[place : place + 2]
            terms, z_terms = ctx.terms[place : place + 2]
            conv, filters = ctx.links[place].conv, ctx.filters[place]
            back, grads = np.empty((4, z.shape[-1]), np.float32), np.empty_like(z_terms[:2])
            chain_norm.norm_back(z_terms, sums, z.size // z.shape[-1], back, grads)
            x_grad, sums = _new(x.shape), np.zeros((2, x.shape[-1]))
            filters_grad = np.empty_like(filters)
            if isinstance(conv, DepthwiseConv2d):
                chain_depthwise.depthwise_back(
                    passed, z, back, x, terms, filters, _pair(conv), x_grad, filters_grad, sums
                )
                weight_grad = torch.from_numpy(filters_grad).permute(2, 0, 1).unsqueeze(1)
            else:
                chain_pointwise.pointwise_back(
                    _rows(passed),
                    _rows(z),
                    back,
                    _rows(x),
                    terms,
                    filters,
                    _rows(x_grad),
                    filters_grad,
                    sums,
                )
                weight_grad = torch.from_numpy(filters_grad)[:, :, None, None]
            found = [weight_grad, *torch.from_numpy(grads), *found]
            passed = x_grad
        return _map(passed), None, *found


def _convolved(
    link: Link, filters: Values, x: Values, terms: Values, norm_weight: Tensor, norm_bias: Tensor
) -> tuple[Values, Values]:
    """The map that a link's convolution makes of one, and its terms."""
    images, height, width, _ = x.shape
    down, across = stride = _pair(link.conv)
    channels = len(norm_weight)
    z = _new((images, -(-height // down), -(-width // across), channels))
    origin, sums = np.empty(channels, np.float32), np.zeros((2, channels))
    if isinstance(link.conv, DepthwiseConv2d):
        chain_depthwise.depthwise(x, terms, filters, stride, z, origin, sums)
    else:
        chain_pointwise.pointwise(_rows(x), terms, filters, _rows(z), origin, sums)
    norm, z_terms = link.norm, np.empty((_ROWS_OF_TERMS, channels), np.float32)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    batch_terms(
        (*sums, origin, z.size // channels),
        _memory(norm_weight),
        _memory(norm_bias),
        norm.eps,
        norm.momentum,
        _memory(norm.running_mean),
        _memory(norm.running_var),
        z_terms,
    )
    z_terms[LEAST], z_terms[MOST] = link.kept
    return z, z_terms


def _filters(link: Link, weight: Tensor) -> Values:
    """Weights as the kernels read them: (N, K) of a pointwise, (kh, kw, C) of a depthwise layer."""
    if isinstance(link.conv, DepthwiseConv2d):
        return _memory(weight.squeeze(1).permute(1, 2, 0))
    return _memory(weight.flatten(1))


def _pair(conv: nn.Conv2d) -> Pair:
    down, across = conv.stride
    return down, across


def _memory(x: Tensor) -> Values:
    """The memory of a float32 tensor; a copy where it has gaps."""
    memory: Values = x.detach().contiguous().numpy()
    return memory


def _new(shape: tuple[int, ...]) -> Values:
    """Memory for a map, aligned to vectors, as numpy's own is not."""
    return _memory(torch.empty(shape))


def _map(pixels: Values) -> Tensor:
    """A map in the order N, H, W, C as torch's (N, C, H, W), in the same memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> Values:
    """A map (N, C, H, W) in the order N, H, W, C: its own memory where it is channels_last."""
    return _memory(x.permute(0, 2, 3, 1))


def _rows(pixels: Values) -> Values:
    """A map with a row a pixel."""
    return pixels.reshape(-1, pixels.shape[-1])
