"""``mbsearch evaluate`` and ``predict``: every exported file classifies images as the network."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exportable_network import exportable
from PIL import Image

from mbsearch.cli import main
from mbsearch.data.readers import FilePool, resized
from mbsearch.errors import ExportError
from mbsearch.export import exported_file
from mbsearch.export.exported_file import open_exported
from mbsearch.export.formats import export
from mbsearch.export.graphs import ONNX, onnx_session
from mbsearch.export.onnx_preprocessing import put_preprocessing
from mbsearch.export.preprocessing import PREPROCESSING, PREPROCESSING_FILE, Preprocessing
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.noise import interval

CLASSES = ("cat", "dog", "eel", "fox")
MEAN, STD = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.3, 0.1], np.float32)
SMALL = Architecture.model_validate(
    {
        "resolution": 16,
        "num_classes": 4,
        "stem": {"channels": 8},
        "stages": [{"block": "separable", "channels": 16}],
    }
)
FILES = ("model.onnx", "model.py", "model.safetensors", "model.pt2")


def write_photos(folder: Path, per_class: int = 8) -> list[Path]:
    """Noisy images of different colours and sizes in class folders."""
    rng = np.random.default_rng(0)
    for i in range(per_class * len(CLASSES)):
        base, sides = rng.integers(0, 200, 3), rng.integers(20, 40, 2)
        pixels = (base + rng.integers(0, 56, (*sides, 3))).astype(np.uint8)
        path = folder / CLASSES[i % len(CLASSES)] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return sorted(folder.rglob("*.png"))


def inputs(paths: list[Path]) -> torch.Tensor:
    """The network's inputs, computed as the model card says."""
    count = len(paths)
    pool = FilePool(tuple(paths), np.zeros(count, np.int64), np.zeros(count, np.bool_))
    pixels = np.stack(
        [image for (image,) in resized(pool, np.arange(count), (ImageFormat.of(16),), 3)]
    )
    scaled = (pixels.transpose(0, 2, 3, 1) / np.float32(255) - MEAN) / STD
    return torch.from_numpy(scaled.transpose(0, 3, 1, 2).astype(np.float32))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A folder with photos and an exported network, and the network's logits for the photos."""
    home = tmp_path_factory.mktemp("files")
    paths = write_photos(home / "photos")
    given = replace(exportable(SMALL), class_names=CLASSES)
    with torch.inference_mode():
        mean = given.module(inputs(paths)).mean(0)
        given.module.head.classifier.bias -= mean  # type: ignore[union-attr]
        logits = given.module(inputs(paths))
    export(given, home / "out", ("pytorch", "torch-export", "onnx"))
    known = Preprocessing.of(given)
    assert known is not None
    (home / "out" / PREPROCESSING_FILE).write_text(known.model_dump_json())
    (home / "out" / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return home, logits


@pytest.fixture
def home(made: tuple[Path, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, and a cache of its own."""
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(made[0], tmp_path / "home"))


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def read(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert run(*arguments) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


@pytest.mark.parametrize("file", FILES)
def test_accuracy_and_recalls_are_those_of_the_network(
    made: tuple[Path, torch.Tensor],
    home: Path,
    file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = read(capsys, "evaluate", home / "out" / file, "--data", home / "photos", "--split=all")
    labels = np.repeat(np.arange(4), 8)
    correct = made[1].argmax(1).numpy() == labels
    assert 0 < correct.mean() < 1
    assert found["accuracy"] == correct.mean()
    assert (found["low"], found["high"]) == interval(correct.mean(), 32, 0.0)
    assert (found["images"], found["largest_class"]) == (32, 0.25)
    assert {row["name"]: row["recall"] for row in found["recalls"]} == {
        name: correct[labels == i].mean() for i, name in enumerate(CLASSES)
    }
    assert 0 < found["median_seconds"] < 1


@pytest.mark.parametrize("file", FILES)
def test_probabilities_are_the_softmax_of_the_networks_logits(
    made: tuple[Path, torch.Tensor],
    home: Path,
    file: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = read(capsys, "predict", home / "out" / file, home / "photos", "--top", "4")
    assert [row["path"] for row in found["images"]] == [
        str(path) for path in sorted((home / "photos").rglob("*.png"))
    ]
    for row, logits in zip(found["images"], made[1], strict=True):
        expected = logits.double().softmax(0)
        assert [each["name"] for each in row["classes"]] == [
            CLASSES[int(i)] for i in expected.argsort(descending=True)
        ]
        for each in row["classes"]:
            assert each["probability"] == pytest.approx(
                float(expected[CLASSES.index(each["name"])]), abs=1e-5
            )


def test_the_printed_evaluation_names_interval_majority_time_and_classes(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", home / "out" / ONNX, "--data", home / "photos") == 0
    printed = capsys.readouterr()
    assert "95 % interval" in printed.out
    assert "test images, largest class 0." in printed.out
    assert "ms an image (median) by onnxruntime on one thread" in printed.out
    assert all(name in printed.out for name in CLASSES)
    assert "test images: drawn from the training images with seed 0\n" in printed.err


def test_a_file_of_an_earlier_version_is_read_by_its_text(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "alone" / ONNX
    path.parent.mkdir()
    model = onnx.load(home / "out" / ONNX)
    notes = {each.key: each.value for each in model.metadata_props if each.key != PREPROCESSING}
    onnx.helper.set_model_props(model, notes)
    onnx.save(model, path)
    assert open_exported(path).preprocessing == open_exported(home / "out" / ONNX).preprocessing
    del notes["normalisation"]
    onnx.helper.set_model_props(model, notes)
    onnx.save(model, path)
    message = refused(capsys, "predict", path, home / "photos")
    assert "expected the preprocessing of its images in its metadata" in message
    assert "--preprocessing FILE takes a JSON file of height, width, channels" in message
    given = home / "out" / PREPROCESSING_FILE
    assert run("predict", path, home / "photos", "--preprocessing", given) == 0


def test_other_classes_are_refused_and_unknown_ones_have_to_be_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "photos" / "fox").rename(home / "photos" / "wolf")
    command = ("evaluate", home / "out" / ONNX, "--data", home / "photos")
    assert refused(capsys, *command).endswith("missing there: fox; only there: wolf")
    (home / "out" / "labels.txt").unlink()
    message = refused(capsys, "evaluate", home / "out" / "model.pt2", "--data", home / "photos")
    assert "--labels FILE names them" in message
    (home / "few.txt").write_text("cat\ndog\neel\n")
    message = refused(
        capsys, "predict", home / "out" / ONNX, home / "photos", "--labels", home / "few.txt"
    )
    assert "expected one output for each of the 3 class names, got the shape (4,)" in message


def test_class_folders_in_another_order_have_the_same_accuracy(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "out" / "swapped.txt").write_text("zebra\ndog\neel\nfox\n")
    command = ("evaluate", home / "out" / ONNX, "--split", "all", "--data", home / "photos")
    before = read(capsys, *command)["accuracy"]
    (home / "photos" / "cat").rename(home / "photos" / "zebra")  # now the last in the alphabet
    labels = home / "out" / "swapped.txt"
    assert read(capsys, *command, "--labels", labels)["accuracy"] == before


def test_class_names_may_have_the_line_ends_of_windows(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = home / "out" / "windows.txt"
    labels.write_bytes(b"cat\r\ndog\r\neel\r\nfox\r\n")
    found = open_exported(home / "out" / "model.pt2", labels=labels)
    assert found.class_names == CLASSES
    command = ("evaluate", home / "out" / ONNX, "--data", home / "photos", "--labels", labels)
    assert read(capsys, *command)["images"] > 0


@pytest.mark.parametrize("names", ["cat,dog,eel,fox", '{"cat": 0}', "[1, 2, 3, 4]"])
def test_class_names_of_another_program_are_refused(
    home: Path, names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "out" / ONNX
    model = onnx.load(path)
    kept = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, kept | {"class_names": names})
    onnx.save(model, path)
    message = refused(capsys, "predict", path, home / "photos")
    assert "expected class_names in its metadata as a JSON list of text, got" in message
    assert "--labels FILE" in message
    given = home / "out" / "labels.txt"
    assert run("predict", path, home / "photos", "--labels", given) == 0


def test_unreadable_images_are_named_after_the_predictions_of_the_others(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "photos" / "cat" / "broken.png").write_bytes(b"no image")
    (home / "photos" / "notes.txt").write_text("not an image")
    assert run("predict", home / "out" / ONNX, home / "photos", "--json") == 2
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert len(found["images"]) == 32
    assert [Path(each["path"]).name for each in found["unreadable"]] == ["broken.png"]
    assert "broken.png: expected an image" in printed.err
    assert "left out of photos: 1 file (not an image: 1)" in printed.err
    monkeypatch.chdir(home / "photos")
    assert run("predict", home / "out" / ONNX, ".") == 2
    printed = capsys.readouterr()
    assert "left out of photos: 1 file (not an image: 1)" in printed.err
    firsts = Counter(each["classes"][0]["name"] for each in found["images"])
    counts = ", ".join(f"{name} {count}" for name, count in firsts.most_common())
    assert f"32 images by their first class: {counts}" in " ".join(printed.out.split())
    assert "no such file" in refused(capsys, "predict", home / "out" / ONNX, home / "none.png")


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_refused_in_one_line(
    home: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "out" / file).write_bytes(b"not a network")
    message = refused(capsys, "predict", home / "out" / file, home / "photos")
    assert f"{file}: expected an exported network, got a file that cannot be opened" in message


def test_the_extension_and_the_file_beside_are_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "predict", home / "out" / "labels.txt", home / "photos")
    assert "expected a file that ends in one of .onnx, .tflite, .pt2, .py, .safetensors" in message
    (home / "out" / "model.safetensors").unlink()
    message = refused(capsys, "predict", home / "out" / "model.py", home / "photos")
    assert "model.safetensors: expected the weights of the network beside its source" in message


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mean": [0.5]}, "expected 3 numbers for mean, got 1"),
        ({"std": [0.2, 0.0, 0.1]}, "std.1: expected a number > 0, got 0.0"),
        ({"colours": "BGR"}, "colours: expected one of rgb, grey, got 'BGR'"),
        ({"size": 16}, "size: unknown key"),
    ],
)
def test_an_invalid_preprocessing_file_is_refused_with_its_key(
    home: Path, change: dict[str, object], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "out" / PREPROCESSING_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    message = refused(capsys, "predict", home / "out" / "model.pt2", home / "photos")
    assert f"{PREPROCESSING_FILE}:1: " in message
    assert expected in message


def test_a_file_with_its_preprocessing_inside_classifies_bytes_as_the_file_without(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [*sorted((home / "photos").rglob("*.png"))]
    ordinary = open_exported(home / "out" / ONNX)
    pool = FilePool(tuple(paths), np.zeros(32, np.int64), np.zeros(32, np.bool_))
    pixels = np.stack(list(ordinary.preprocessing.read_images(pool, np.arange(32))))
    expected = ordinary.probabilities(pixels)
    shutil.copytree(home / "out", home / "bytes")
    put = put_preprocessing(home / "bytes" / ONNX, ordinary.preprocessing, pixels)
    assert (put.file, put.images) == (ONNX, 32)
    assert put.error < 1e-5
    assert {path.name for path in (home / "bytes").iterdir()} == {
        path.name for path in (home / "out").iterdir()
    }
    session = onnx_session(home / "bytes" / ONNX)
    (given,) = session.get_inputs()
    assert (given.type, given.shape) == ("tensor(uint8)", ["batch", 16, 16, 3])
    logits = session.run(None, {given.name: pixels})[0]
    assert np.allclose(torch.tensor(logits).double().softmax(1), expected, atol=1e-6)
    notes = session.get_modelmeta().custom_metadata_map
    assert notes["input"].startswith("images: uint8, (batch, height, width, channels)")
    for command in (("evaluate", "--split=all", "--data"), ("predict", "--top=1")):
        name, *options = command
        found = [
            read(capsys, name, home / folder / ONNX, *options, home / "photos")
            for folder in ("out", "bytes")
        ]
        for key in {"accuracy", "recalls"} & set(found[0]):
            assert found[0][key] == found[1][key]
        tops = [[row["classes"][0]["name"] for row in each.get("images", [])]
                for each in found if name == "predict"]  # fmt: skip
        assert not tops or tops[0] == tops[1] != []


def test_a_file_whose_preprocessing_changes_its_outputs_is_left_as_it_was(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "out" / ONNX
    before, opened = path.read_bytes(), open_exported(path)
    pixels = np.full((1, 16, 16, 3), 100, np.uint8)
    other = opened.preprocessing.model_copy(update={"mean": (0.1, 0.4, 0.3)})
    with pytest.raises(ExportError, match="expected the logits of the file without"):
        put_preprocessing(path, other, pixels)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


class FakeInterpreter:
    """A network of one int8 layer, channels last: the mean of each channel."""

    def get_input_details(self) -> list[dict[str, Any]]:
        shape = np.array([1, 2, 2, 3])
        return [{"index": 0, "shape": shape, "dtype": np.int8, "quantization": (0.5, -3)}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 1, "dtype": np.int8, "quantization": (0.25, 4)}]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert index == 0
        assert value.dtype == np.int8
        assert value.shape == (1, 2, 2, 3)
        self.means = (value.astype(float) + 3).mean((1, 2)) * 0.5

    def invoke(self) -> None:
        self.output = (self.means / 0.25 + 4).astype(np.int8)

    def get_tensor(self, index: int) -> Any:
        return self.output


def test_an_int8_file_of_litert_gets_and_returns_quantised_numbers() -> None:
    image = torch.tensor([1.0, -2.0, 3.0])[:, None, None].expand(3, 2, 2)
    assert exported_file._invoke(FakeInterpreter(), image).tolist() == [[1.0, -2.0, 3.0]]


def test_without_its_runtime_a_litert_file_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ExportError, match="pip install ai-edge-litert"):
        open_exported(tmp_path / "model.tflite")


def test_an_integer_input_without_a_scale_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unscaled(FakeInterpreter):
        def __init__(self, **_: object) -> None:
            pass

        def allocate_tensors(self) -> None:
            pass

        def get_input_details(self) -> list[dict[str, Any]]:
            return [super().get_input_details()[0] | {"quantization": (0.0, 0)}]

    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Unscaled)
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    with pytest.raises(ExportError, match="expected a scale of its integer input, got none"):
        open_exported(tmp_path / "model.tflite")
