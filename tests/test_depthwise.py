from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mbsearch.training.depthwise import DepthwiseConv2d

KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (5, 1), (1, 3)]
SIDES = [(1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (1, 3), (4, 2)]
STRIDES = [(1, 1), (2, 2), (3, 3), (4, 4)]


def gradients(y: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    return torch.autograd.grad(y, of, torch.randn(y.shape, generator=generator, dtype=y.dtype))


@pytest.mark.parametrize("kernel", KERNELS)
def test_outputs_and_gradients_are_those_of_torch(kernel: tuple[int, int]) -> None:
    for side, stride in itertools.product(SIDES, STRIDES):
        layer = DepthwiseConv2d(4, kernel, stride).double()
        x = torch.randn(3, 4, *side, dtype=torch.float64, requires_grad=True)
        padding = (kernel[0] // 2, kernel[1] // 2)
        expected = F.conv2d(x, layer.weight, None, stride, padding, groups=4)
        got = layer(x)
        assert torch.allclose(got, expected, rtol=1e-12, atol=1e-12)
        pairs = zip(
            gradients(got, x, layer.weight), gradients(expected, x, layer.weight), strict=True
        )
        for ours, theirs in pairs:
            assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12), (side, stride)


def test_an_evaluated_network_is_plain_torch() -> None:
    """So that it can be traced for maps of any size."""
    layer = DepthwiseConv2d(4, (3, 3), (1, 1))
    x = torch.randn(1, 4, 2, 2)
    assert "SmallMap" in str(layer(x).grad_fn)
    assert "SmallMap" not in str(layer.eval()(x).grad_fn)
