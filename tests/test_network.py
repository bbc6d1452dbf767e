from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.space.architecture import Architecture, Head, Stem
from mbsearch.space.blocks import (
    Bottleneck,
    ExpandedResidual,
    Identity,
    InvertedResidual,
    SpatialSeparable,
)
from mbsearch.space.library import load_reference, reference_names, space_names
from mbsearch.training.folding import fold_norms
from mbsearch.training.network import Residual, build, skeleton

TV = torchvision.models
PEERS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet_v1 1.0": lambda: timm.create_model("mobilenetv1_100"),
    "mobilenet_v2 1.0": lambda: TV.mobilenet_v2(),
    "mobilenet_v2 0.5": lambda: TV.mobilenet_v2(width_mult=0.5),
    "mobilenet_v3_large 1.0": lambda: TV.mobilenet_v3_large(),
    "mobilenet_v3_small 1.0": lambda: TV.mobilenet_v3_small(),
    "mnasnet_a1 1.0": lambda: timm.create_model("semnasnet_100"),
    "mnasnet_a1 0.5": lambda: timm.create_model("semnasnet_050"),
    "mobilenet_v4_conv_small 1.0": lambda: timm.create_model("mobilenetv4_conv_small"),
}
BLOCKS_WITHOUT_A_PEER = Architecture(
    stem=Stem(channels=16),
    stages=(
        Bottleneck(block="bottleneck", channels=32, repeats=2, stride=2, squeeze_ratio=0.25),
        InvertedResidual(block="inverted_residual", channels=24, repeats=2, linear=False),
        InvertedResidual(block="inverted_residual", channels=24, shortcut=False),
        ExpandedResidual(block="expanded_residual", channels=48, repeats=2),
        SpatialSeparable(block="spatial_separable", channels=24, kernel=5, stride=2),
        Identity(block="identity", channels=40),
    ),
    head=Head(channels=64, hidden=48),
)


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("case", PEERS)
def test_outputs_equal_those_of_a_peer_with_the_same_weights(case: str) -> None:
    name, alpha = case.split()
    torch.manual_seed(0)
    peer = PEERS[case]()
    ours = build(load_reference(name).replace(alpha=float(alpha))).eval()
    for module, theirs in zip(norms(ours), norms(peer), strict=True):
        module.eps = theirs.eps  # torchvision's V3 keeps TensorFlow's 1e-3
        nn.init.uniform_(theirs.weight, 0.5, 1.5)
        nn.init.normal_(theirs.bias, 0, 0.2)
        theirs.momentum = 1.0
    # Statistics of real maps: with those of a fresh module every image ends in the same logits,
    # and an error would hide.
    peer.train()(torch.randn(8, 3, 96, 96))
    peer.eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), peer.state_dict().values(), strict=True)))
    images = torch.randn(4, 3, 96, 96)
    with torch.inference_mode():
        got, expected = ours.double()(images.double()), peer.double()(images.double())
    assert (expected[0] - expected[1]).norm() > 0.01 * expected[0].norm(), "the test is blind"
    assert (got - expected).norm() < 1e-10 * expected.norm()


def assert_cost_is_exact(architecture: Architecture) -> None:
    network = skeleton(architecture).eval()
    costs = measure(architecture)
    assert sum(p.numel() for p in network.parameters()) == costs["params"]
    # On the device "meta" much is worked out in Python, and norms, of which nothing is counted,
    # cost the counter most of its time.
    for module in network.modules():
        if hasattr(module, "norm"):
            module.norm = nn.Identity()
    for parameter in network.to_empty(device="cpu").parameters():
        nn.init.zeros_(parameter)
    image = torch.zeros(1, *architecture.image_format.shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    assert counter.get_total_flops() == 2 * costs["mult_adds"], architecture.to_yaml()


@pytest.mark.parametrize("name", reference_names())
def test_cost_of_a_reference_is_what_torch_counts(name: str) -> None:
    assert_cost_is_exact(load_reference(name).replace(alpha=0.75, resolution=160))


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_counts_of_mobilenet_v4_are_those_of_timms_networks(size: str) -> None:
    costs = measure(load_reference(f"mobilenet_v4_conv_{size}"))
    with torch.device("meta"):
        peer = timm.create_model(f"mobilenetv4_conv_{size}").eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            peer(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() == 2 * costs["mult_adds"]
    assert sum(p.numel() for p in peer.parameters()) == costs["params"]


def test_cost_of_the_blocks_that_no_reference_has_is_what_torch_counts() -> None:
    assert_cost_is_exact(BLOCKS_WITHOUT_A_PEER)


@pytest.mark.slow
@pytest.mark.parametrize("name", space_names())
def test_cost_of_random_candidates_is_what_torch_counts(name: str) -> None:
    space = load_specification(name)
    for seed in range(30):
        assert_cost_is_exact(space.sample(seed))


@pytest.mark.parametrize(
    "architecture", [*map(load_reference, reference_names()), BLOCKS_WITHOUT_A_PEER]
)
def test_modules_have_the_names_and_shapes_of_the_program(architecture: Architecture) -> None:
    architecture = architecture.replace(resolution=64)
    network = build(architecture).eval()
    shapes: dict[str, tuple[int, ...]] = {}
    for placed in architecture.layers():
        network.get_submodule(placed.name).register_forward_hook(
            lambda _, __, y, name=placed.name: shapes.update({name: tuple(y.shape[1:])})
        )
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64))
    for placed in architecture.layers():
        is_vector = placed.name.startswith("head.") and placed.name != "head.conv"
        expected = tuple(placed.out_shape)[: 1 if is_vector else 3]
        assert shapes[placed.name] == expected, placed.name


def test_the_seed_decides_the_weights_and_the_global_generator_is_unused() -> None:
    before = torch.get_rng_state()
    one, same, other = (build(BLOCKS_WITHOUT_A_PEER, seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["stem.conv.weight"], other["stem.conv.weight"])


def test_variances_are_those_of_the_fan_out() -> None:
    network = build(load_reference("mobilenet_v2"))
    for name, fan_out in {"stages.6.0.projection": 320, "stages.6.0.depthwise": 9}.items():
        weight = network.get_parameter(f"{name}.conv.weight").detach()
        assert weight.var().item() == pytest.approx(2 / fan_out, rel=0.1)


def ends_in_relu(block: Residual) -> bool:
    last = block.get_submodule(block.body_names[-1])
    return isinstance(last.get_submodule("activation"), nn.ReLU6)


def test_zero_init_makes_every_residual_block_without_a_last_relu_its_shortcut() -> None:
    network = build(BLOCKS_WITHOUT_A_PEER, zero_init_residual=True)
    all_residuals = [m for m in network.modules() if isinstance(m, Residual)]
    residuals = [block for block in all_residuals if not ends_in_relu(block)]
    assert (len(all_residuals), len(residuals)) == (4, 2)
    for block in residuals:
        x = torch.randn(2, next(block.parameters()).shape[1], 8, 8)
        skip = x
        for name in block.shortcut_names:
            skip = block.get_submodule(name)(skip)
        assert torch.equal(block(x), block.activation(skip.clone()))


def test_every_weight_of_a_network_has_a_gradient_after_zero_init_and_one_step() -> None:
    """A branch that ends in a ReLU would have none at a scale of 0."""
    network = build(BLOCKS_WITHOUT_A_PEER, zero_init_residual=True, num_classes=10)
    images, labels = torch.randn(8, 3, 64, 64), torch.arange(8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_the_number_of_classes_can_be_given() -> None:
    network = build(BLOCKS_WITHOUT_A_PEER, num_classes=7)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_zero_classes_raise_an_error() -> None:
    with pytest.raises(SpecError, match="num_classes"):
        build(BLOCKS_WITHOUT_A_PEER, num_classes=0)


@pytest.mark.parametrize("architecture", [load_reference("mnasnet_a1"), BLOCKS_WITHOUT_A_PEER])
def test_folded_norms_change_nothing_but_the_number_of_layers(architecture: Architecture) -> None:
    network = build(architecture).double()
    for norm in norms(network):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = 1.0
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    network(images)
    before = copy.deepcopy(network.state_dict())
    folded = fold_norms(network)
    assert norms(folded) == []
    assert all(module.training for module in network.modules())
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with torch.inference_mode():
        got, expected = folded(images), network.eval()(images)
    assert (got - expected).norm() < 1e-10 * expected.norm()
