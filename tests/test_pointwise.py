from __future__ import annotations

import pytest
import torch
from fused_layers import pointwise
from torch.nn import functional as F


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("side", [1, 2, 7])
def test_outputs_and_gradients_are_those_of_torch(side: int, order: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(1)
    layer = pointwise(5, 8)
    x = torch.randn(3, 5, side, side, generator=generator).to(memory_format=order).requires_grad_()
    got, expected = layer(x), F.conv2d(x, layer.weight)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-6)
    grad = torch.randn(expected.shape, generator=generator)
    ours = torch.autograd.grad(got, (x, layer.weight), grad)
    theirs = torch.autograd.grad(expected, (x, layer.weight), grad)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_evaluation_uses_torchs_convolution() -> None:
    """So that its graph is exported as a convolution."""
    layer, x = pointwise(5, 8), torch.randn(1, 5, 2, 2)
    assert "Convolution" not in str(layer(x).grad_fn)
    assert "Convolution" in str(layer.eval()(x).grad_fn)
