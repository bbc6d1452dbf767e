"""Networks for grey and oblong images: costs, modules, data, exports and references agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exportable_network import exportable
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mbsearch.cli import main
from mbsearch.config.baselines import Baseline
from mbsearch.config.budgets import Budget
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.specification import load_specification, read_specification
from mbsearch.cost import layer_costs, measure
from mbsearch.data.batches import Split, batches
from mbsearch.data.readers import PADDING, FilePool, resized
from mbsearch.data.sources import load_source
from mbsearch.errors import DataError, SpecError
from mbsearch.evaluation import by_training
from mbsearch.execution.protocol import Task
from mbsearch.export.exportable import Exportable, Normalisation
from mbsearch.export.formats import export
from mbsearch.export.quantization import quantise
from mbsearch.export.usage_code import preprocessing_code
from mbsearch.retraining.competitors import equal_cost_references
from mbsearch.search.references import fitting_references
from mbsearch.space.architecture import Architecture, Input
from mbsearch.space.image_format import Fit, ImageFormat
from mbsearch.space.library import load_reference
from mbsearch.space.size import Size
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.records import Evaluation, Fidelity
from mbsearch.training.feature_maps import build_features
from mbsearch.training.long_training import FinalTraining
from mbsearch.training.network import build
from mbsearch.training.proxy import ProxyTraining

FORMATS = ((1, Size(96, 160)), (3, Size(72, 128)), (5, Size(33, 47)))
GREY = Input(channels=1)


def random_network(space: str, seed: int, channels: int, size: Size) -> Architecture:
    network = load_specification(space).sample(seed)
    return network.replace(resolution=size, inputs=Input(channels=channels), num_classes=4)


def stated(text: str) -> Any:
    return read_specification(parse_document(SPACE + text, "s.yaml"))


SPACE = """
stem: {channels: 8}
stages:
  - {block: separable, channels: 16, stride: 2, repeats: {choices: [1, 2]}}
"""


@pytest.mark.parametrize("size", [Size.square(96), Size(96, 160), Size(160, 96)])
def test_a_size_is_read_as_it_is_written(size: Size) -> None:
    assert Size.parse(size.plain) == Size.read(str(size)) == size
    assert size.scaled(0.25).with_shorter(size.shorter) == size
    assert size.scaled(1e-6) == Size.square(1)


@pytest.mark.parametrize(
    "text", ["96x96", "0x96", "096x160", "96x", "x96", "96 x 160", "96x5000", "5000", "-1", "1.5"]
)
def test_other_texts_are_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="an integer from 1 to 4096 for a square, or height x"):
        Size.read(text)


@pytest.mark.parametrize("pixels", [0, 24, "24x40"])
def test_an_evaluation_keeps_the_pixels_of_any_evaluator(pixels: int | str) -> None:
    data: dict[str, Any] = {
        "accuracy": 0.5,
        "validation_loss": 1.0,
        "seconds": 1.0,
        "seed": 0,
        "pixels": pixels,
    }
    data |= {"curve": [], "evaluator": "mine", "recipe": {}, "device": "none"}
    assert Evaluation.from_dict(data).to_dict()["pixels"] == pixels


@pytest.mark.parametrize("space", ["v1", "v2", "v4", "mixed"])
@pytest.mark.parametrize(("channels", "size"), FORMATS)
def test_costs_of_random_networks_are_what_hooks_see(space: str, channels: int, size: Size) -> None:
    network = random_network(space, 3, channels, size)
    module, seen = build(network).eval(), {}
    for name, part in module.named_modules():

        def hook(_: nn.Module, given: tuple[Tensor], out: Tensor, name: str = name) -> None:
            seen[name] = tuple(given[0].shape[1:]), tuple(out.shape[1:])

        part.register_forward_hook(hook)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        module(torch.zeros(1, *network.image_format.shape))
    costs = measure(network)
    assert counter.get_total_flops() == 2 * costs["mult_adds"]
    assert sum(p.numel() for p in module.parameters()) == costs["params"]
    for layer in layer_costs(network):
        given, out = (tuple(shape) for shape in seen[layer.name])
        assert given == tuple(layer.in_shape)[: len(given)], layer.name
        assert out == tuple(layer.out_shape)[: len(out)], layer.name


def test_square_colour_networks_keep_their_fingerprints() -> None:
    v1, v2 = load_reference("mobilenet_v1"), load_reference("mobilenet_v2")
    assert (v1.fingerprint, v2.fingerprint) == ("c67efc01a69ed36e", "13971556ad81648e")
    small = v2.replace(alpha=0.35, resolution=96, num_classes=10)
    assert small.fingerprint == "ed4df81cede9f1b5"
    tiny = load_specification("tiny")
    assert (tiny.fingerprint, tiny.sample(0).fingerprint) == (
        "3c1ac6685099b71e",
        "b83b0334c982e9e6",
    )
    others = {
        v2.replace(inputs=GREY),
        v2.replace(resolution="224x96"),
        v2.replace(resolution="96x224"),
        v2.replace(resolution="96x1"),
        v2.replace(resolution=96, inputs=GREY),
        v2,
    }
    assert len({network.fingerprint for network in others}) == len(others)
    assert v2.replace(inputs=Input(fit="pad")).fingerprint == v2.fingerprint


def test_a_space_of_squares_and_rectangles_is_searched_and_written() -> None:
    text = "resolution: {choices: [64, 96x160, 48x80]}\ninput: {channels: 1, fit: pad}"
    space = stated(text)
    assert space.resolutions == (Size(48, 80), Size.square(64), Size(96, 160))
    assert [str(each) for each in space.image_formats] == [
        "48x80, 1 channel, pad",
        "64, 1 channel, pad",
        "96x160, 1 channel, pad",
    ]
    for params in space.enumerate_params():
        network = space.decode(params)
        assert space.encode(network) == params
        again = read_specification(parse_document(network.to_yaml(), "n.yaml")).decode({})
        assert again.fingerprint == network.fingerprint
        assert again.image_format == network.image_format
        assert Architecture.model_validate(network.to_dict()) == network
    assert stated("resolution: 96x160").decode({"stages.0.repeats": 1}).image_format.fit == "crop"
    assert stated("resolution: 96").decode({"stages.0.repeats": 1}).image_format.fit == "stretch"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resolution: 96x96", "s.yaml:5: resolution: expected an integer from 1 to 4096"),
        ("resolution: {choices: [96, 96x]}", "resolution.choices.1: expected an integer from 1"),
        ("input: {channels: 0}", "s.yaml:5: input.channels: expected a number >= 1, got 0"),
        ("input: {fit: zoom}", "input.fit: expected one of crop, pad, stretch, got 'zoom'"),
        ("input: {chanels: 1}", "unknown key, expected one of channels, fit; did you mean"),
        ("input: 1", "input: expected a mapping, got 1"),
        ("input: {channels: {choices: [1, 3]}}", "input.channels: expected one value: the images"),
        ("baselines: [{reference: mobilenet_v1, resolution: 9x}]", "resolution.0: expected an int"),
    ],
)
def test_a_mistake_in_the_input_is_one_line(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        stated(text)
    assert message in str(caught.value)


def test_references_take_the_input_of_the_space() -> None:
    budget = Budget.of({"mult_adds": 10_000_000})
    found = fitting_references(
        "mobilenet_v2", budget, num_classes=4, published=False, aspect=Size(96, 160), inputs=GREY
    )
    assert found
    assert all(network.input == GREY for network in found)
    assert all(
        network.resolution == Size(96, 160).with_shorter(network.resolution.height)
        for network in found
    )
    for competitor in equal_cost_references(found[0]):
        network = competitor.architecture
        assert network.input == GREY
        assert network.resolution.width > network.resolution.height
        assert measure(network)["mult_adds"] == pytest.approx(
            measure(found[0])["mult_adds"], rel=0.05
        )
    assert Baseline.model_validate({"reference": "mobilenet_v1", "resolution": ["96x160", 96]}) == (
        Baseline(reference="mobilenet_v1", resolution=(Size(96, 160), Size.square(96)))
    )


def test_a_backbone_has_the_channels_and_maps_of_its_network() -> None:
    network = load_reference("mobilenet_v1").replace(
        alpha=0.25, resolution="33x47", inputs=Input(channels=5)
    )
    backbone = build_features(network).eval()
    maps = backbone(torch.zeros(1, *network.image_format.shape))
    assert [tuple(each.shape[2:]) for each in maps.values()] == [
        (-(-33 // stride), -(-47 // stride)) for stride in backbone.strides
    ]


def circle(width: int, height: int) -> Image.Image:
    """A black image with a white disc in its centre."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2 < (height / 4) ** 2
    return Image.fromarray((255 * inside).astype(np.uint8)).convert("RGB")


def read(path: Path, images: ImageFormat) -> Any:
    rows = np.zeros(1, np.int64)
    pool = FilePool((path,), rows, np.array([images.channels == 1]))
    ((pixels,),) = resized(pool, rows, [images], images.channels)
    assert pixels.shape == images.shape
    return pixels


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_only_stretch_distorts_and_only_pad_adds_pixels(fit: Fit, tmp_path: Path) -> None:
    circle(200, 100).save(tmp_path / "wide.png")
    pixels = read(tmp_path / "wide.png", ImageFormat(Size.square(64), 3, fit))[0]
    disc = pixels == 255
    extents = [int(disc.any(axis).sum()) for axis in (0, 1)]
    assert (abs(extents[0] - extents[1]) <= 1) == (fit != "stretch")
    assert (pixels[0] == PADDING).all() == (fit == "pad")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_exported_code_reads_images_exactly_as_the_training_does(
    channels: int, fit: Fit, orientation: int, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Image.fromarray(noise).resize((900, 700))
    photo.save(tmp_path / "photo.jpg", exif=exif)
    network = load_reference("mobilenet_v1").replace(
        resolution="36x60", inputs=Input(channels=channels, fit=fit)
    )
    known = Normalisation((0.5,) * channels, (0.25,) * channels, channels == 1)
    scope: dict[str, Any] = {}
    exec(preprocessing_code(Exportable(network, nn.Identity(), "", known), known), scope)
    found = scope["preprocess"](tmp_path / "photo.jpg")
    pixels = read(tmp_path / "photo.jpg", network.image_format)
    assert found.shape == (1, *network.image_format.shape)
    np.testing.assert_allclose(found[0], (pixels / 255 - 0.5) / 0.25, atol=1e-5)


def photos(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


def test_colour_images_become_grey_for_one_channel(tmp_path: Path) -> None:
    source = load_source(photos(tmp_path / "photos"), seed=0)
    grey, colour = (
        source.split("train", ImageFormat(Size(10, 15), channels, "crop")) for channels in (1, 3)
    )
    assert (grey.images.shape[1:], colour.images.shape[1:]) == ((1, 10, 15), (3, 10, 15))
    assert (len(grey.mean), len(colour.mean)) == (1, 3)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    expected = (colour.images * weights).sum(1, keepdim=True)
    assert (grey.images - expected).abs().max() <= 2
    (batch,) = batches(grey, len(grey))
    assert batch.images.shape == (len(grey), 1, 10, 15)
    assert abs(float(batch.images.mean())) < 0.2
    with pytest.raises(DataError, match=r"takes 1 channel \(grey images\) or 3 .* takes 5"):
        source.split("train", ImageFormat(Size.square(8), 5))


def test_grey_images_are_not_repeated_for_one_channel() -> None:
    source = load_source("embedded", seed=0)
    one, three = (
        source.split("train", replace(ImageFormat.of(12), channels=channels), 20)
        for channels in (1, 3)
    )
    assert torch.equal(one.images, three.images)
    assert (one.mean, one.std) == (three.mean, three.std)
    first, repeated = next(batches(one, 20)).images, next(batches(three, 20)).images
    assert torch.equal(first.expand(-1, 3, -1, -1), repeated)


def test_a_run_says_what_becomes_of_the_images_and_refuses_other_channels(tmp_path: Path) -> None:
    folder = str(photos(tmp_path / "photos"))
    space = stated("resolution: 20x30\ninput: {channels: 1}\nproxy: {train_images: 4}")
    facts = by_training(space, folder, 0, "cpu", tmp_path).facts
    assert "input: colour images become grey (input.channels: 1)" in facts
    assert any(fact.endswith("fitted by: crop (input.fit)") for fact in facts)
    assert not any(fact.startswith("start:") for fact in facts), "donors take colour images"
    with pytest.raises(SpecError, match=r"s.yaml:5: input: channels: expected 1 .* got 5"):
        by_training(stated("input: {channels: 5}"), folder, 0, "cpu", tmp_path)
    donor = stated("input: {channels: 1}\nweights: efficientnet_lite0")
    with pytest.raises(SpecError, match=r"s.yaml:6: weights: expected none for networks of input"):
        by_training(donor, folder, 0, "cpu", tmp_path)


@pytest.mark.slow
def test_a_grey_rectangle_is_trained_in_every_fidelity(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    network = load_reference("mobilenet_v1").replace(alpha=0.1, resolution="40x64", inputs=GREY)
    proxy = Proxy(resolution_scale=0.5, epochs=1, batch_size=4, train_images=None)
    retrain = Retrain(epochs=2, batch_size=4)
    training = ProxyTraining(
        proxy.model_copy(update={"validation_images": None}),
        str(folder),
        device="cpu",
        retrain=retrain,
    )
    assert training.evaluate(Task(network, seed=0)).evaluation.pixels == Size(20, 32)
    final = training.evaluate(Task(network, seed=0, fidelity=Fidelity.FINAL)).evaluation
    assert final.pixels == Size(40, 64)
    assert Evaluation.from_dict(json.loads(json.dumps(final.to_dict()))).pixels == Size(40, 64)
    tested = FinalTraining(retrain, 0.5, str(folder), tmp_path / "retrain")
    tested.home(Task(network, seed=0)).mkdir(parents=True)
    assert tested.evaluate(Task(network, seed=0)).evaluation.pixels == Size(20, 32)


def split_of(network: Architecture, count: int) -> Split:
    generator = torch.Generator().manual_seed(count)
    shape = (count, *network.image_format.shape)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    channels = network.input.channels
    level = (0.5,) * channels
    return Split(images, torch.zeros(count, dtype=torch.int64), level, level, 4, channels=channels)


@pytest.mark.parametrize(("channels", "size"), FORMATS)
def test_python_formats_agree_with_the_network(channels: int, size: Size, tmp_path: Path) -> None:
    network = load_reference("mobilenet_v2").replace(
        alpha=0.35, resolution=size, inputs=Input(channels=channels), num_classes=4
    )
    written = export(exportable(network), tmp_path, ("yaml", "pytorch", "timm"))
    assert all(each.error is not None and each.error < 1e-5 for each in written)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "size"), FORMATS)
def test_graphs_agree_with_the_network_and_int8_files_run(
    channels: int, size: Size, tmp_path: Path
) -> None:
    network = random_network("tiny", 1, channels, size)
    written = export(exportable(network), tmp_path, ("torch-export", "onnx"))
    assert all(each.error is not None and each.error < 1e-5 for each in written)
    found = quantise(tmp_path, split_of(network, 8), split_of(network, 9), "validation")
    assert found.images == 9
    assert (tmp_path / "model.int8.onnx").is_file()


def test_count_takes_a_rectangle_and_names_the_channels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = load_reference("mobilenet_v2").replace(inputs=GREY)
    (tmp_path / "grey.yaml").write_text(grey.to_yaml())
    with pytest.raises(SystemExit):
        main(["count", str(tmp_path / "grey.yaml"), "--resolution", "96x160"])
    assert "96x160 px, channels: 1  1,000 classes" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["count", "mobilenet_v2", "--resolution", "96x"])
    assert stopped.value.code == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "--resolution: expected an integer from 1 to 4096 for a square, or height" in message
    assert "got '96x'" in message
