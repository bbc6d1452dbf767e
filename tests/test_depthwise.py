from __future__ import annotations

import itertools
import math

import pytest
import torch
from fused_layers import depthwise
from torch import Tensor, nn
from torch.nn import functional as F

KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (5, 1), (1, 3)]
SIDES = [(1, 1), (2, 2), (3, 3), (4, 4), (6, 6), (1, 3), (4, 2)]
STRIDES = [(1, 1), (2, 2), (3, 3), (4, 4), (1, 2)]


def image(side: tuple[int, int]) -> Tensor:
    x = torch.randn(3, 4, *side, generator=torch.Generator().manual_seed(1))
    return x.to(memory_format=torch.channels_last).requires_grad_()


def layer_of(kernel: tuple[int, int], stride: tuple[int, int]) -> nn.Conv2d:
    layer = depthwise(4, kernel, stride)
    with torch.no_grad():
        layer.weight.normal_(generator=torch.Generator().manual_seed(3))
    return layer


def gradients(y: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    return torch.autograd.grad(y, of, grad.to(y.dtype))


@pytest.mark.parametrize("kernel", KERNELS)
def test_outputs_and_gradients_are_those_of_torch(kernel: tuple[int, int]) -> None:
    for side, stride in itertools.product(SIDES, STRIDES):
        layer, x = layer_of(kernel, stride), image(side)
        padding = (kernel[0] // 2, kernel[1] // 2)
        x64, weight64 = (e.detach().double().requires_grad_() for e in (x, layer.weight))
        expected = F.conv2d(x64, weight64, None, stride, padding, groups=4)
        got = layer(x)
        assert torch.allclose(got.double(), expected, rtol=1e-5, atol=1e-6)
        ours, theirs = gradients(got, x, layer.weight), gradients(expected, x64, weight64)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-5), (side, stride)


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5)])
def test_mixed_precision_differs_by_its_rounding_only(kernel: tuple[int, int]) -> None:
    for side, stride in itertools.product(SIDES, STRIDES):
        layer, x = layer_of(kernel, stride), image(side)
        wide = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow = layer(x)
        assert narrow.dtype == torch.bfloat16
        for a, b in zip(
            gradients(narrow, x, layer.weight), gradients(wide, x, layer.weight), strict=True
        ):
            assert a.dtype == torch.float32  # of the parameters themselves
            assert (a - b).norm() <= 2**-5 * b.norm(), (side, stride)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_gradient_is_written(kernel: tuple[int, int]) -> None:
    """Reused memory holds old values; oneDNN leaves some of them."""
    for side, stride in itertools.product([*SIDES, (5, 3), (7, 8)], STRIDES):
        layer, x = layer_of(kernel, stride), image(side)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x)
        # Freed, these are the memory that the gradients are written to.
        used = [torch.full((n,), math.nan) for n in (9, 16, 36, 48, 64, 108, 192, 432) * 20]
        del used
        assert all(g.isfinite().all() for g in gradients(y, x, layer.weight)), (side, stride)


def test_the_images_themselves_need_no_gradient() -> None:
    layer = depthwise(4, (3, 3), (1, 1))
    layer(torch.randn(1, 4, 2, 2)).sum().backward()
    assert layer.weight.grad is not None


def test_evaluation_uses_torchs_convolution() -> None:
    """So that it can be traced for maps of any size."""
    layer = depthwise(4, (3, 3), (1, 1))
    x = torch.randn(1, 4, 2, 2)
    assert "_Depthwise" in str(layer(x).grad_fn)
    assert "_Depthwise" not in str(layer.eval()(x).grad_fn)
