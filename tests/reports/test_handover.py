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
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dash import Dash
from PIL import Image
from plotly.utils import PlotlyJSONEncoder

from .conftest import commands_in, search_with

if TYPE_CHECKING:
    from mbsearch.study.records import TrialRecord

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")
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
    searched = ("--space", "small.yaml", "--data", "photos", "--trials", "2", "--jobs", "1")
    search_with(mbsearch, *searched).passed()
    formats = ("--formats", "yaml,pytorch,torch-export,onnx,timm")
    mbsearch("export", "results/small", "--trial", "0", *formats, "--int8", "-o", "out").passed()
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


@in_process
@pytest.mark.slow
def test_int8_files_of_litert_are_listed_and_their_code_names_a_class(home: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    chosen = ("--formats", "yaml,litert-int8,c-array", "-o", "litert")
    commands_in(home)("export", "results/small", "--trial", "0", *chosen).passed()
    out = home / "litert"
    test_the_card_lists_every_file_of_the_folder(out)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert re.search(r"`network_int8.tflite` .* int8 classifies [0-9.]+ of \d+ validation", card)
    image = out.parent / "photos" / IN_ORDER[1] / "003.png"
    preprocessing, use = code_of(out / "README.md")
    printed = subprocess.check_output(
        [sys.executable, "-c", (preprocessing + use).replace('"photo.jpg"', repr(str(image)))],
        cwd=out,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
    )
    assert printed.splitlines()[-1] in IN_ORDER
    header = (out / "network_int8.h").read_text(encoding="ascii")
    assert [
        json.loads(name) for name in re.findall(r"^//   \d (\".*\")$", header, re.M)
    ] == IN_ORDER


@pytest.mark.slow
def test_the_code_of_the_card_feeds_bytes_to_files_with_their_preprocessing_inside(
    home: Path,
) -> None:
    mbsearch = commands_in(home)
    printed = mbsearch(
        *("export", "results/small", "--trial", "0", "--formats", "onnx,pytorch"),
        *("--int8", "--preprocess", "-o", "bytes"),
    ).passed()
    for file in ("model.onnx", "model.int8.onnx"):
        assert f"{file}: takes bytes, relative error" in printed
    blocks = code_of(home / "bytes" / "README.md")
    image = home / "photos" / IN_ORDER[1] / "003.png"
    script = "\n".join(blocks).replace('"photo.jpg"', repr(str(image)))
    assert script.count('"images": read(') == 2
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=home / "bytes",
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    of_onnx, of_int8, of_torch = done.stdout.splitlines()
    assert of_onnx == of_torch
    assert {of_onnx, of_int8} <= set(IN_ORDER)


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


@in_process
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize("write", [rotated, large, transparent, palette, cmyk])
def test_the_code_reads_images_exactly_as_the_training_does(
    write: Callable[[Path], None], grey: bool, tmp_path: Path
) -> None:
    from torch import nn

    from mbsearch.data.readers import FilePool, resized
    from mbsearch.export.exportable import Exportable, Normalisation
    from mbsearch.export.usage_code import preprocessing_code
    from mbsearch.space.image_format import ImageFormat
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
    ((pixels,),) = resized(pool, rows, [ImageFormat.of(32)], 1 if grey else 3)
    trained = np.broadcast_to(pixels, (3, 32, 32)).transpose(1, 2, 0).astype(np.float32) / 255
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), (trained - mean) / std, atol=1e-5)


# The dashboard behind a proxy


@pytest.fixture
def served(
    study: tuple[Path, list[TrialRecord]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Dash]:
    """Returns the application that ``mbsearch dashboard`` with these options would serve."""
    from mbsearch.cli import app

    def serve(*options: str) -> Dash:
        started: list[Dash] = []
        monkeypatch.setattr(Dash, "run", lambda found, **_: started.append(found))
        app(["dashboard", str(study[0]), *options], standalone_mode=False)
        return started[0]

    return serve


def hrefs(component: object) -> list[str]:
    """All links below a component or its JSON."""
    data = json.loads(json.dumps(component, cls=PlotlyJSONEncoder))
    found, rest = [], [data]
    while rest:
        each = rest.pop()
        if isinstance(each, dict):
            found += [v for k, v in each.items() if k in ("href", "src") and isinstance(v, str)]
            rest += each.values()
        elif isinstance(each, list):
            rest += each
    return found


@in_process
@pytest.mark.parametrize("prefix", ["/user/ann/proxy/8050", "proxy/8050/", "/~ann/"])
def test_all_addresses_have_the_prefix_or_are_relative(
    served: Callable[..., Dash], study: tuple[Path, list[TrialRecord]], prefix: str
) -> None:
    from mbsearch.dashboard.pages import pages
    from mbsearch.dashboard.studies import Library, ResultsFolder

    whole = f"/{prefix.strip('/')}/"
    client = served("--url-prefix", prefix).server.test_client()
    for path in ("/", "/network", whole, f"{whole}network"):  # as proxies remove or keep it
        text = client.get(path, headers={"Host": "127.0.0.1"}).get_data(as_text=True)
        (config,) = re.findall(r'<script id="_dash-config"[^>]*>(.*?)</script>', text)
        assert json.loads(config)["requests_pathname_prefix"] == whole
        scripts = re.findall(r'(?:src|href)="(/[^"]*)"', text)
        assert scripts
        assert all(each.startswith(whole) for each in scripts)
    library = Library(ResultsFolder(study[0]))
    while (snapshot := library.snapshot(None)).loading:
        pass
    links = [
        link for page in pages().values() for link in hrefs(page.layout(snapshot, {}, library))
    ]
    assert links
    assert [link for link in links if link.startswith("/")] == []


@in_process
@pytest.mark.parametrize("pathname", ["/user/ann/", "/user/ann/network", "/user/ann/search"])
def test_pages_are_found_below_the_prefix(pathname: str, served: Callable[..., Dash]) -> None:
    application = served("--url-prefix", "/user/ann")
    client = application.server.test_client()
    (callback,) = [key for key in application.callback_map if key.startswith("..shell.children")]
    ids = [key.rpartition(".") for key in callback.strip(".").split("...")]
    sent = {
        "output": callback,
        "outputs": [{"id": name, "property": what} for name, _, what in ids],
        "inputs": [
            {"id": "url", "property": "pathname", "value": pathname},
            {"id": "url", "property": "search", "value": ""},
            {"id": "version", "property": "data", "value": None},
        ],
        "state": [
            {"id": "view", "property": "data", "value": {}},
            {"id": "shown", "property": "data", "value": None},
        ],
        "changedPropIds": ["url.pathname"],
    }
    for place in ("/user/ann/_dash-update-component", "/_dash-update-component"):
        answer = client.post(place, json=sent, headers={"Host": "127.0.0.1"})
        assert "No such page" not in answer.get_data(as_text=True)
        links = hrefs(answer.get_json())
        assert any(link.startswith("network") for link in links)
        assert [link for link in links if link.startswith("/")] == []


@in_process
@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        ([], "127.0.0.1:8050", 200),
        ([], "localhost", 200),
        ([], "hub.example.org", 403),
        (["--allow-host", "hub.example.org"], "hub.example.org", 200),
        (["--allow-host", "HUB.example.org."], "Hub.Example.org:443", 200),
        (["--allow-host", "a.org", "--allow-host", "b.org"], "b.org", 200),
        (["--allow-host", "hub.example.org"], "rebound.hub.example.org", 403),
        (["--allow-host", "example.org"], "hub.example.org", 403),
        (["--url-prefix", "/x"], "hub.example.org", 403),
    ],
)
def test_only_allowed_host_names_are_answered(
    served: Callable[..., Dash], options: list[str], host: str, status: int
) -> None:
    client = served(*options).server.test_client()
    assert client.get("/", headers={"Host": host}).status_code == status


@in_process
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--url-prefix", "https://hub.example.org/x"),
        ("--url-prefix", "/a/../b"),
        ("--url-prefix", "/a b"),
        ("--url-prefix", "/a?b=c"),
        ("--allow-host", "https://hub.example.org"),
        ("--allow-host", "*"),
        ("--allow-host", "hub.example.org:8000"),
        ("--allow-host", ""),
    ],
)
def test_what_is_no_prefix_or_host_name_is_refused_by_name(
    option: str,
    value: str,
    study: tuple[Path, list[TrialRecord]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mbsearch.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["dashboard", str(study[0]), option, value])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"error: {option}: expected a " in error
    assert repr(value) in error
