from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from exportable_network import exportable
from torch.utils.flop_counter import FlopCounterMode

from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.errors import ExportError
from mbsearch.export.exportable import Exportable, Runner
from mbsearch.export.formats import FORMATS, TOLERANCE, export, require
from mbsearch.export.timm_string import timm_strings
from mbsearch.space.architecture import Architecture, Head, Stem
from mbsearch.space.blocks import (
    Bottleneck,
    ExpandedResidual,
    Identity,
    InvertedResidual,
    Separable,
    SpatialSeparable,
    Standard,
)
from mbsearch.space.library import load_reference, reference_names, space_names
from mbsearch.space.size import Size
from mbsearch.training.folding import fold_norms

PYTHON_FORMATS = ("yaml", "pytorch", "timm")
EVERY_BLOCK = Architecture(
    resolution=Size.square(32),
    num_classes=7,
    stem=Stem(channels=8),
    stages=(
        Separable(block="separable", channels=16, squeeze_ratio=0.25, linear=True),
        Bottleneck(block="bottleneck", channels=32, repeats=2, stride=2, squeeze_ratio=0.25),
        InvertedResidual(block="inverted_residual", channels=24, repeats=2, linear=False),
        InvertedResidual(block="inverted_residual", channels=24, shortcut=False),
        ExpandedResidual(block="expanded_residual", channels=48, repeats=2),
        SpatialSeparable(block="spatial_separable", channels=24, kernel=5, stride=2),
        Standard(block="standard", channels=24, activation="hard_swish"),
        Identity(block="identity", channels=40),
    ),
    head=Head(channels=64, hidden=48),
)


def small(architecture: Architecture) -> Architecture:
    return architecture.replace(resolution=32, num_classes=10)


def candidates(name: str, count: int) -> list[Architecture]:
    space = load_specification(name)
    return [small(space.sample(seed)) for seed in range(count)]


def assert_timm_counts_the_same(architecture: Architecture, folder: Path) -> None:
    scope: dict[str, object] = {"__file__": str(folder / "timm_model.py")}
    exec((folder / "timm_model.py").read_text(), scope)
    network = scope["load"]()  # type: ignore[operator]
    costs = measure(architecture)
    assert sum(p.numel() for p in network.parameters()) == costs["params"]
    image = torch.zeros(1, *architecture.image_format.shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    assert counter.get_total_flops() == 2 * costs["mult_adds"]


def assert_python_formats_hold(architecture: Architecture, folder: Path) -> bool:
    """Whether timm can express it; every other format must."""
    written = export(exportable(architecture), folder, PYTHON_FORMATS)
    for each in written:
        assert each.error is not None or (each.format == "timm" and each.note)
        assert each.error is None or each.error <= TOLERANCE
    said = written[-1].error is not None
    if said:
        assert_timm_counts_the_same(architecture, folder)
    return said


@pytest.mark.parametrize("name", reference_names())
def test_yaml_source_and_timm_string_express_a_reference(name: str, tmp_path: Path) -> None:
    assert assert_python_formats_hold(small(load_reference(name)).replace(alpha=0.5), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", space_names())
def test_yaml_source_and_timm_string_express_random_candidates(name: str, tmp_path: Path) -> None:
    networks = candidates(name, 5)
    said = [
        assert_python_formats_hold(network, tmp_path / str(i)) for i, network in enumerate(networks)
    ]
    assert any(said)
    if name != "mixed":  # V2's last stage may be left out; timm has no linear convolution for it
        ends = [network.stages[-2:] for network in networks]
        assert said == [
            last.block != "identity" or last.channels == before.channels for before, last in ends
        ]


def test_every_default_format_expresses_every_block_type(tmp_path: Path) -> None:
    written = export(exportable(EVERY_BLOCK), tmp_path / "out")
    assert {each.format for each in written if each.error is not None} == {
        "yaml",
        "pytorch",
        "torch-export",
        "onnx",
    }
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert [p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".data"] == []
    notes = {prop.key: prop.value for prop in model.metadata_props}
    assert "mean (0.5, 0.4, 0.3), std (0.2, 0.3, 0.1)" in notes["normalisation"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert str(Path.cwd()) not in str(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixed", "mobilenet_v3_small"])
def test_graphs_express_a_network_of_every_kind(name: str, tmp_path: Path) -> None:
    is_space = name in space_names()
    network = candidates(name, 1)[0] if is_space else small(load_reference(name))
    written = export(exportable(network), tmp_path, ("torch-export", "onnx"))
    assert [each.error is not None for each in written] == [True, True]


def test_source_and_graph_run_without_mbsearch(tmp_path: Path) -> None:
    given = exportable(EVERY_BLOCK)
    export(given, tmp_path, ("pytorch", "torch-export"))
    images = torch.randn(2, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    # Without site (-S) the path files of editable installs are not read.
    code = f"""
import sys
sys.path = [p for p in sys.path if p] + [{str(Path(torch.__file__).parent.parent)!r}]
import torch
try:  # an editable install leaves a folder of that name with the shipped spaces alone
    import mbsearch.cost
except ImportError:
    pass
else:
    raise AssertionError("mbsearch is known here")
sys.path.insert(0, {str(tmp_path)!r})
import model
from safetensors.torch import load_file
network = model.Network()
network.load_state_dict(load_file({str(tmp_path / "model.safetensors")!r}))
images = torch.load({str(tmp_path / "images.pt")!r})
graph = torch.export.load({str(tmp_path / "model.pt2")!r}).module()
torch.save([network.eval()(images), graph(images)], {str(tmp_path / "logits.pt")!r})
"""
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd=tmp_path)
    expected = given.module(images)
    for logits in torch.load(tmp_path / "logits.pt"):
        assert (logits - expected).norm() < TOLERANCE * expected.norm()


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mixed"])
def test_source_is_formatted_and_imports_only_torch(name: str, tmp_path: Path) -> None:
    network = EVERY_BLOCK if name == "mixed" else load_reference(name)
    export(exportable(network.replace(resolution=64)), tmp_path, ("pytorch", "timm", "yaml"))
    source = (tmp_path / "model.py").read_text()
    imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert imports == ["from torch import Tensor, nn"]
    assert "MEAN = (0.5, 0.4, 0.3)" in source
    command = [sys.executable, "-m", "ruff", "--isolated"]
    files = [str(path) for path in tmp_path.glob("*.py")]
    subprocess.run([*command, "format", "--check", "--line-length=100", *files], check=True)
    subprocess.run(
        [*command, "check", "--select=E,F,I,B,UP", "--line-length=100", *files], check=True
    )


def test_timm_strings_are_those_that_timm_itself_has() -> None:
    assert timm_strings(load_reference("mobilenet_v2")) == [
        ["ds_r1_k3_s1_c16"],
        ["ir_r2_k3_s2_e6_c24"],
        ["ir_r3_k3_s2_e6_c32"],
        ["ir_r4_k3_s2_e6_c64"],
        ["ir_r3_k3_s1_e6_c96"],
        ["ir_r3_k3_s2_e6_c160"],
        ["ir_r1_k3_s1_e6_c320"],
    ]
    assert timm_strings(load_reference("mobilenet_v1"))[3] == ["dsa_r6_k3_s2_c512"]
    assert timm_strings(load_reference("mnasnet_a1"))[2] == ["ir_r3_k5_s2_e3_c40_se0.25"]


V2 = {"block": "inverted_residual", "channels": 16}
UNSAYABLE: dict[str, dict[str, Any]] = {
    "this kind of bottleneck block": {"stages": [{"block": "bottleneck", "channels": 16}]},
    "this kind of inverted residual block": {"stages": [{**V2, "linear": False}]},
    "this kind of spatial separable": {"stages": [{"block": "spatial_separable", "channels": 16}]},
    "a convolution without activation": {"stages": [{"block": "identity", "channels": 16}]},
    "without stages": {"stages": [{"block": "identity", "channels": 8}]},
    "no stem of kernel 3 and stride 1": {"stem": {"channels": 8, "stride": 1}},
    "no stem of kernel 5 and stride 2": {
        "stem": {"channels": 8, "kernel": 5},
        "head": {"hidden": 16},
    },
    "one activation for stem and head": {"head": {"channels": 16, "activation": "relu"}},
    "timm cannot express stages.0: a stride of 3": {"stages": [{**V2, "stride": 3}]},
    "no network with a hidden layer that strides by 64": {
        "resolution": 128,
        "stages": [{**V2, "stride": 2}] * 5,
        "head": {"hidden": 16},
    },
    "one gate": {
        "stages": [
            {**V2, "squeeze_ratio": 0.5},
            {**V2, "squeeze_ratio": 0.5, "squeeze_style": "mnasnet"},
        ]
    },
}


@pytest.mark.parametrize("words", UNSAYABLE)
def test_the_reason_why_timm_cannot_express_a_network_is_named(words: str, tmp_path: Path) -> None:
    fields = {"resolution": 32, "stem": {"channels": 8}, "stages": [V2], **UNSAYABLE[words]}
    given = exportable(Architecture.model_validate(fields))
    with pytest.raises(ExportError, match=words):
        export(given, tmp_path, ("timm",))
    *_, timm = export(given, tmp_path, ("yaml", "timm"))
    assert timm.error is None
    assert words in (timm.note or "")
    assert [path.name for path in tmp_path.iterdir()] == ["architecture.yaml"]


def test_a_file_that_differs_from_the_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(given: Exportable, folder: Path) -> Runner:
        return lambda images: given.module(images) * (1 + 1e-4)

    monkeypatch.setitem(FORMATS, "yaml", replace(FORMATS["yaml"], read=wrong))
    with pytest.raises(ExportError, match=r"architecture.yaml: expected the logits .* got 1.0e-04"):
        export(exportable(EVERY_BLOCK), tmp_path / "out", ("yaml",))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setitem(FORMATS, "timm", replace(FORMATS["timm"], read=wrong))
    given = exportable(load_reference("mobilenet_v2").replace(resolution=32))
    *_, timm = export(given, tmp_path, ("pytorch", "timm"))
    assert timm.error is None, "the optional format does not cost the others"
    assert "timm_model.py: expected the logits" in (timm.note or "")
    assert not (tmp_path / "timm_model.py").exists()


@pytest.mark.parametrize("name", ["C:\\new\\x", 'a """b""" c', "net [/b]"])
def test_a_source_can_have_any_network_name(name: str, tmp_path: Path) -> None:
    network = load_reference("mobilenet_v2").replace(resolution=32, alpha=0.35, name=name)
    export(exportable(network), tmp_path, ("pytorch", "timm"))
    for file in ("model.py", "timm_model.py"):
        docstring = ast.get_docstring(ast.parse((tmp_path / file).read_text()))
        assert (docstring or "").startswith(f"{name}: a network.")


def test_a_network_with_large_rounding_errors_has_a_larger_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = exportable(
        load_reference("mobilenet_v3_large").replace(resolution=32), least_variance=0.0
    )
    folded = replace(FORMATS["yaml"], read=lambda given, folder: fold_norms(given.module))
    monkeypatch.setitem(FORMATS, "yaml", folded)
    (written,) = export(given, tmp_path, ("yaml",))
    assert written.error is not None
    assert TOLERANCE < written.error < 1e-3


def test_unknown_formats_and_missing_packages_are_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ExportError, match=r"got 'onxx'; did you mean 'onnx'\?"):
        require(("yaml", "onxx"))
    for name in ("litert", "executorch"):
        lacking = replace(FORMATS[name], packages=(f"no_such_{name}",))
        monkeypatch.setitem(FORMATS, name, lacking)
    with pytest.raises(ExportError, match=r"run: pip install 'mbsearch\[executorch,litert\]'"):
        require(("litert", "executorch", "onnx"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file/out: cannot be written"):
        export(exportable(EVERY_BLOCK), tmp_path / "file" / "out", ("yaml",))
