from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import FeaturePyramidNetwork

import mbsearch as mb
from mbsearch.config.specification import load_specification
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import load_reference, reference_names, space_names
from mbsearch.training.feature_maps import build_features
from mbsearch.training.network import build


def networks() -> list[Architecture]:
    references = [load_reference(name).replace(alpha=0.5) for name in reference_names()]
    return references + [load_specification(name).sample(7) for name in space_names()]


@pytest.mark.parametrize("architecture", networks(), ids=lambda a: a.name)
def test_maps_have_the_strides_and_channels_that_are_announced(architecture: Architecture) -> None:
    backbone = mb.build(architecture, features_only=True).eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, architecture.input.channels, 75, 50))
    assert list(maps) == [f"stride {stride}" for stride in backbone.strides]
    assert sorted(set(backbone.strides)) == list(backbone.strides)
    for found, stride, channels in zip(
        maps.values(), backbone.strides, backbone.channels, strict=True
    ):
        assert found.shape == (1, channels, -(-75 // stride), -(-50 // stride))


def test_the_last_map_is_what_the_head_sees() -> None:
    architecture = load_reference("mobilenet_v3_small").replace(resolution=64)
    network = build(architecture, seed=3).eval()
    backbone = build_features(architecture, seed=3).eval()
    assert backbone.channels == (16, 16, 24, 48, 96)
    assert backbone.strides == (2, 4, 8, 16, 32)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits = network.get_submodule("head")(backbone(images)["stride 32"])
        assert torch.equal(logits, network(images))


def test_weights_of_a_whole_network_load_under_their_names() -> None:
    architecture = load_reference("mobilenet_v2").replace(alpha=0.35)
    backbone = build_features(architecture, seed=1)
    lacking = backbone.load_state_dict(build(architecture, seed=2).state_dict(), strict=False)
    assert lacking.missing_keys == []
    assert all(key.startswith("head.") for key in lacking.unexpected_keys)


def test_it_drops_into_torchvisions_feature_pyramid() -> None:
    backbone = build_features(load_reference("mobilenet_v1").replace(alpha=0.25))
    pyramid = FeaturePyramidNetwork(list(backbone.channels), 16)
    maps = pyramid(OrderedDict(backbone(torch.zeros(2, 3, 64, 64))))
    assert [tuple(m.shape) for m in maps.values()] == [(2, 16, s, s) for s in (32, 16, 8, 4, 2)]
