"""The operators for TensorFlow Lite compute what torch's network computes."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from exportable_network import exportable
from test_export import EVERY_BLOCK, candidates, small
from torch import Tensor
from torch.nn import functional as F

from mbsearch.cost.same_padding import same_padding
from mbsearch.export.operators import operators_of, run_operators
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Shape
from mbsearch.space.library import load_reference, reference_names, space_names


def unchanged(name: str, x: Tensor) -> Tensor:
    return x


@torch.inference_mode()
def assert_same_logits(architecture: Architecture) -> None:
    network = exportable(architecture)
    operators = operators_of(architecture, network.module)
    shape = architecture.image_format.shape
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        run_operators(operators, images, unchanged), network.module(images), rtol=1e-4, atol=1e-4
    )
    shapes: dict[str, tuple[int, ...]] = {}

    def observed(name: str, x: Tensor) -> Tensor:
        shapes[name] = tuple(x.shape[1:])
        return x

    run_operators(operators, images, observed)
    for each in operators[:-1]:
        assert shapes[each.name] == each.shape


@pytest.mark.parametrize("side", [32, 47, 50])
def test_every_block_type_at_even_and_odd_sides(side: int) -> None:
    assert_same_logits(EVERY_BLOCK.replace(resolution=side))


@pytest.mark.parametrize("name", reference_names())
def test_references(name: str) -> None:
    assert_same_logits(small(load_reference(name)).replace(alpha=0.25, resolution=48))


@pytest.mark.parametrize("name", space_names())
def test_random_candidates_of_the_shipped_spaces(name: str) -> None:
    for network in candidates(name, 2):
        assert_same_logits(network)


def test_an_activation_after_an_addition_is_kept() -> None:
    stages = [{"block": "bottleneck", "channels": 16, "activation": "hard_swish"}]
    fields = {"resolution": 16, "num_classes": 3, "stem": {"channels": 8}, "stages": stages}
    assert_same_logits(Architecture.model_validate(fields))


def test_same_padding_begins_where_torch_does_for_any_kernel_stride_and_side() -> None:
    generator = torch.Generator().manual_seed(0)
    for kernel, stride, side in product((1, 3, 5, 7), (1, 2, 3, 4), range(5, 20)):
        layer = Conv("conv", 2, (kernel, kernel), (stride, stride), depthwise=True)
        zeros = same_padding(layer, Shape(2, side, side))
        assert zeros.padded is None
        image = torch.randn(1, 2, side, side, generator=generator)
        weight = torch.randn(2, 1, kernel, kernel, generator=generator)
        expected = F.conv2d(image, weight, stride=stride, padding=kernel // 2, groups=2)
        larger = F.pad(weight, [0, zeros.columns, 0, zeros.rows])
        # TensorFlow's rule: as much as is missing, the smaller half first.
        missing = max((expected.shape[2] - 1) * stride + kernel + zeros.rows - side, 0)
        before, after = missing // 2, missing - missing // 2
        padded = F.pad(image, [before, after, before, after])
        torch.testing.assert_close(F.conv2d(padded, larger, stride=stride, groups=2), expected)


def test_zeros_are_added_where_they_need_fewer_bytes() -> None:
    depthwise = Conv("conv", 64, (3, 3), (2, 2), depthwise=True)
    assert same_padding(depthwise, Shape(64, 8, 8)).rows == 1
    wide = Conv("conv", 512, (3, 3), (2, 2))
    assert same_padding(wide, Shape(64, 8, 8)).padded == Shape(64, 10, 10)
    stages = [{"block": "standard", "channels": 256, "stride": 2}]
    fields = {"resolution": 16, "num_classes": 3, "stem": {"channels": 8}, "stages": stages}
    network = Architecture.model_validate(fields)
    kinds = [each.kind for each in operators_of(network, exportable(network).module)]
    assert kinds.count("pad") == 1
    assert_same_logits(network)
