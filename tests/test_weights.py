from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from mbsearch.errors import DataError
from mbsearch.space.library import load_reference
from mbsearch.training.network import build
from mbsearch.training.weights import classes_of, load_weights

TV = torchvision.models
# Reference, alpha, where it is published, and the eps of its batch normalisations.
PUBLISHED: dict[str, tuple[str, float, Callable[[], nn.Module], float]] = {
    "torchvision V2": ("mobilenet_v2", 1.0, TV.mobilenet_v2, 1e-5),
    "torchvision V3 large": ("mobilenet_v3_large", 1.0, TV.mobilenet_v3_large, 1e-3),
    "torchvision V3 small": ("mobilenet_v3_small", 1.0, TV.mobilenet_v3_small, 1e-3),
    "timm V1": ("mobilenet_v1", 1.0, lambda: timm.create_model("mobilenetv1_100"), 1e-5),
    "timm V2": ("mobilenet_v2", 0.5, lambda: timm.create_model("mobilenetv2_050"), 1e-5),
    "timm V3": (
        "mobilenet_v3_small",
        1.0,
        lambda: timm.create_model("mobilenetv3_small_100"),
        1e-5,
    ),
}


def perturbed(network: nn.Module) -> nn.Module:
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("case", PUBLISHED)
def test_published_weights_give_the_outputs_of_their_library(
    case: str, suffix: str, tmp_path: Path
) -> None:
    name, alpha, make, eps = PUBLISHED[case]
    torch.manual_seed(0)
    theirs = perturbed(make())
    write = torch.save if suffix == "pth" else save_file
    write(theirs.state_dict(), tmp_path / f"weights.{suffix}")
    network = build(load_reference(name).replace(alpha=alpha)).eval()
    load_weights(network, tmp_path / f"weights.{suffix}", eps=eps)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        got, expected = network.double()(images), theirs.double()(images)
    assert (expected[0] - expected[1]).norm() > 0.01 * expected[0].norm(), "the test is blind"
    assert (got - expected).norm() < 1e-5 * expected.norm()


def test_our_own_weights_load_by_name_in_any_order(tmp_path: Path) -> None:
    architecture = load_reference("mobilenet_v1").replace(alpha=0.25)
    state = build(architecture, seed=1).state_dict()
    save_file(dict(reversed(state.items())), tmp_path / "weights.safetensors")
    network = build(architecture, seed=2)
    load_weights(network, tmp_path / "weights.safetensors")
    assert all(torch.equal(network.state_dict()[k], v) for k, v in state.items())


def test_another_number_of_classes_keeps_its_own_classifier(tmp_path: Path) -> None:
    architecture = load_reference("mobilenet_v1").replace(alpha=0.25)
    torch.save(build(architecture, seed=1).state_dict(), tmp_path / "weights.pth")
    network = build(architecture, num_classes=10, seed=2)
    classifier = network.get_parameter("head.classifier.weight").clone()
    load_weights(network, tmp_path / "weights.pth")
    assert torch.equal(network.get_parameter("head.classifier.weight"), classifier)
    stem = build(architecture, seed=1).get_parameter("stem.conv.weight")
    assert torch.equal(network.get_parameter("stem.conv.weight"), stem)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    architecture = load_reference("mobilenet_v2")
    network = build(architecture)
    path = tmp_path / "weights.pth"
    torch.save(TV.mobilenet_v2(width_mult=0.5).state_dict(), path)
    words = r"features.0.0.weight: expected the shape \(32, 3, 3, 3\) of stem.conv.weight, got \(16"
    with pytest.raises(DataError, match=words):
        load_weights(network, path)
    torch.save(TV.mobilenet_v3_small().state_dict(), path)
    with pytest.raises(DataError, match="expected the 262 tensors of this network, got"):
        load_weights(network, path)
    torch.save([1, 2], path)
    with pytest.raises(DataError, match="expected a dictionary of tensors, got list"):
        load_weights(network, path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="expected a file of weights, got"):
        load_weights(network, path)
    with pytest.raises(DataError, match="expected a file of weights, got"):
        load_weights(network, tmp_path / "missing.safetensors")


def test_our_weights_have_the_number_of_classes(tmp_path: Path) -> None:
    network = build(load_reference("mobilenet_v2").replace(num_classes=7), seed=0)
    torch.save(network.state_dict(), tmp_path / "ours.pt")
    assert classes_of(tmp_path / "ours.pt") == 7
    torch.save({"fc.bias": torch.zeros(7)}, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"other.pt: expected the weights of a network of ours"):
        classes_of(tmp_path / "other.pt")
