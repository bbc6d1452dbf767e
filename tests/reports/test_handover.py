"""An exported folder is enough for someone who has nothing else: classes, code, all files named."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import commands_in

CLASSES = ("Bär \N{BEAR FACE}", "a|b `c` <script>", 'cat\'s "eye"')  # in alphabetical order
IN_ORDER = sorted(CLASSES)
SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, stride: 2, expansion: {choices: [3, 6]}}
head: {channels: 32}
baselines: []
proxy: {epochs: 1, train_images: null, validation_images: null}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two small networks on photos of three classes, and its exports."""
    home = tmp_path_factory.mktemp("handover")
    colours = np.random.default_rng(0)
    for label, name in enumerate(IN_ORDER):
        folder = home / "photos" / name
        folder.mkdir(parents=True)
        for i in range(14):
            pixels = colours.integers(0, 120, (48, 40, 3), np.uint8)
            pixels[..., label] += 100  # red, green or blue
            Image.fromarray(pixels).save(folder / f"{i:03}.png")
    (home / "small.yaml").write_text(SPACE)
    mbsearch = commands_in(home)
    mbsearch(
        *("run", "--space", "small.yaml", "--data", "photos", "--weights", "none", "--trials", "2"),
        *("--jobs", "1", "--finals", "0", "--no-export"),
    ).passed()
    mbsearch("export", "results/small", "--trial", "0", "--int8", "-o", "out").passed()
    mbsearch("report", "results/small", "-o", "report.html").passed()
    return home


@pytest.fixture(scope="module")
def out(home: Path) -> Path:
    return home / "out"


def code_of(card: Path) -> list[str]:
    """The blocks of Python of a model card."""
    return re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)


def from_onnx(out: Path, file: str) -> list[str]:
    import onnx

    notes = {each.key: each.value for each in onnx.load(out / file).metadata_props}
    names: list[str] = json.loads(notes["class_names"])
    return names


def from_source(out: Path, file: str) -> list[str]:
    tree = ast.parse((out / file).read_text(encoding="utf-8"))
    constants = {ast.unparse(n.targets[0]): n.value for n in tree.body if isinstance(n, ast.Assign)}
    return list(ast.literal_eval(constants["CLASSES"]))


def from_card(out: Path, file: str) -> list[str]:
    (text,) = re.findall(r"```json\n(.*?)\n```", (out / file).read_text(encoding="utf-8"))
    names: list[str] = json.loads(text)
    return names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("model.onnx", from_onnx),
        ("model.int8.onnx", from_onnx),
        ("model.py", from_source),
        ("timm_model.py", from_source),
        ("README.md", from_card),
        ("labels.txt", lambda out, file: (out / file).read_text(encoding="utf-8").splitlines()),
    ],
)
def test_class_names_stand_in_the_order_of_the_outputs(
    out: Path, file: str, names: Callable[[Path, str], list[str]]
) -> None:
    assert names(out, file) == IN_ORDER


@pytest.mark.slow
def test_the_report_has_the_class_names_in_the_order_of_the_outputs(home: Path) -> None:
    from html import unescape

    text = unescape((home / "report.html").read_text(encoding="utf-8"))
    places = [text.index(f"<td>{i}</td><td>{name}</td>") for i, name in enumerate(IN_ORDER)]
    assert places == sorted(places)


@pytest.mark.slow
def test_the_card_lists_every_file_of_the_folder(out: Path) -> None:
    table = (out / "README.md").read_text(encoding="utf-8").partition("## Files")[2]
    listed = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in out.iterdir() if path.is_file())


_SAME_WEIGHTS = """
import timm_model
from model import Network
from safetensors.torch import load_file

ours = Network()
ours.load_state_dict(load_file("model.safetensors"))
x = torch.rand(1, 3, 32, 32)
torch.testing.assert_close(timm_model.load()(x), ours.eval()(x))
"""


@pytest.mark.slow
def test_the_code_of_the_card_runs_as_one_script(out: Path) -> None:
    blocks = code_of(out / "README.md")
    image = out.parent / "photos" / IN_ORDER[1] / "003.png"
    script = "\n".join([*blocks, _SAME_WEIGHTS]).replace('"photo.jpg"', repr(str(image)))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=out,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'InferenceSession("model.onnx")' in script
    assert 'InferenceSession("model.int8.onnx")' in script
    printed = done.stdout.splitlines()
    assert len(printed) == len(blocks) - 1, "each file gives a class"
    floats = {IN_ORDER[int(line)] if line.isdigit() else line for line in printed[:1] + printed[2:]}
    assert len(floats) == 1, "all float files agree"
    assert {*printed[:2], *floats} <= set(IN_ORDER)


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((40, 24), 60).convert("RGB").save(path, "JPEG", exif=exif)


def large(path: Path) -> None:
    Image.effect_noise((900, 700), 60).convert("RGB").save(path, "JPEG")


def transparent(path: Path) -> None:
    image = Image.effect_noise((40, 24), 60).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((40, 24)))
    image.save(path, "PNG")


def palette(path: Path) -> None:
    Image.effect_noise((40, 24), 60).convert("P").save(path, "PNG", transparency=3)


def cmyk(path: Path) -> None:
    Image.effect_noise((40, 24), 60).convert("CMYK").save(path, "TIFF")


@pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("write", [rotated, large, transparent, palette, cmyk])
def test_the_code_reads_images_exactly_as_the_training_does(
    write: Callable[[Path], None], grey: bool, tmp_path: Path
) -> None:
    from torch import nn

    from mbsearch.data.readers import FilePool, squares
    from mbsearch.export.exportable import Exportable, Normalisation
    from mbsearch.export.usage_code import preprocessing_code
    from mbsearch.space.library import load_reference

    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.1])
    network = load_reference("mobilenet_v1").replace(resolution=32)
    known = Normalisation((0.5, 0.4, 0.3), (0.2, 0.3, 0.1), grey)
    scope: dict[str, object] = {}
    exec(preprocessing_code(Exportable(network, nn.Identity(), "", known), known), scope)
    write(tmp_path / "photo")
    found = scope["preprocess"](tmp_path / "photo")  # type: ignore[operator]
    rows = np.zeros(1, np.int64)
    pool = FilePool((tmp_path / "photo",), rows, np.array([grey]))
    ((pixels,),) = squares(pool, rows, [32], 1 if grey else 3)
    trained = np.broadcast_to(pixels, (3, 32, 32)).transpose(1, 2, 0).astype(np.float32) / 255
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), (trained - mean) / std, atol=1e-5)
