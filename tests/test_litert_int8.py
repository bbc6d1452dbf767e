"""Int8 files of LiteRT: run by their runtimes, beside the float network and the int8 ONNX file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from blocky_images import blocky_images
from exportable_network import exportable
from test_export import EVERY_BLOCK, candidates, small

from mbsearch.cost import measure
from mbsearch.cost.deployment import Tensor, plan_arena
from mbsearch.export.formats import INT8_TOLERANCE
from mbsearch.export.graphs import INT8, run_onnx, write_onnx
from mbsearch.export.int8_network import Int8Network, Quantisation, int8_network
from mbsearch.export.litert_int8 import litert_file, run_litert_int8
from mbsearch.export.operators import IMAGE
from mbsearch.export.quantization import quantise
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import load_reference, space_names

pytest.importorskip("ai_edge_litert")

NETWORKS = {
    "every block": EVERY_BLOCK,
    "mobilenet_v1": small(load_reference("mobilenet_v1")).replace(alpha=0.25, resolution=48),
    "mobilenet_v2": small(load_reference("mobilenet_v2")).replace(alpha=0.35, resolution=32),
    "mnasnet_a1": small(load_reference("mnasnet_a1")).replace(alpha=0.35, resolution=32),
    "mobilenet_v3_small": small(load_reference("mobilenet_v3_small")).replace(resolution=32),
    "mobilenet_v4_conv_small": small(load_reference("mobilenet_v4_conv_small")).replace(
        alpha=0.35, resolution=32
    ),
    "bottlenecks": Architecture.model_validate(
        {
            "resolution": 32,
            "num_classes": 7,
            "stem": {"channels": 8},
            "stages": [
                {
                    "block": "bottleneck",
                    "channels": 32,
                    "repeats": 2,
                    "activation": "hard_swish",
                    "squeeze_ratio": 0.25,
                }
            ],
        }
    ),
    "conv_mobilenet_v1": small(load_reference("conv_mobilenet_v1")).replace(
        alpha=0.25, resolution=48
    ),
}


def quantised(architecture: Architecture, images: int = 100) -> Int8Network:
    train = blocky_images(images, architecture.image_format)
    return int8_network(architecture, exportable(architecture).module, train)


@cache
def known(name: str) -> tuple[Int8Network, bytes]:
    network = quantised(NETWORKS[name])
    return network, litert_file(network)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", NETWORKS)
def test_litert_computes_what_the_quantised_operators_do(name: str) -> None:
    network, content = known(name)
    logits, simulated = (
        run_litert_int8(content)(network.examples),
        network.simulate(network.examples),
    )
    assert len(logits) == 100
    assert distance(logits, simulated) < 0.05
    steps = (logits - simulated).abs() / network.output.scale
    assert steps.mean() < 2.5, "a few quantisation steps"
    with torch.inference_mode():
        expected = exportable(NETWORKS[name]).module(network.examples)
    assert distance(logits, expected) < 0.15
    # Where the two first classes are apart by more than the error, the first is the same.
    first, second = expected.topk(2).values.unbind(1)
    apart = first - second > 2 * (logits - expected).abs().amax(1)
    assert (logits.argmax(1) == expected.argmax(1))[apart].all()


@pytest.mark.parametrize("name", NETWORKS)
def test_each_operator_of_the_file_is_within_a_step_of_the_rounded_one(name: str) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    network, content = known(name)
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    indices = {each["name"]: each["index"] for each in interpreter.get_tensor_details()}
    image = network.input.quantise(network.examples[:1]).permute(0, 2, 3, 1).contiguous()
    interpreter.set_tensor(indices[IMAGE], image.numpy())
    interpreter.invoke()

    def found(map_: str) -> torch.Tensor:
        values = torch.from_numpy(interpreter.get_tensor(indices[map_]).copy())
        return values.permute(0, 3, 1, 2) if values.ndim == 4 else values

    for operator in network.rounded_operators():
        inputs = [network.quantisations[each].real(found(each)) for each in operator.inputs]
        expected = network.quantisations[operator.name].quantise(operator(*inputs))
        assert (found(operator.name).int() - expected.int()).abs().max() <= 1, operator.name


@pytest.mark.slow
def test_litert_agrees_with_the_int8_onnx_file(tmp_path: Path) -> None:
    architecture = NETWORKS["mobilenet_v1"]
    network, content = known("mobilenet_v1")
    write_onnx(exportable(architecture), tmp_path)
    train = blocky_images(100, architecture.image_format)
    quantise(tmp_path, train, train, "train")
    ours = run_litert_int8(content)(network.examples)
    onnx = run_onnx(tmp_path / INT8)(network.examples)
    assert (ours.argmax(1) == onnx.argmax(1)).float().mean() > 0.9
    assert (ours - onnx).abs().mean() < 5 * network.output.scale


@pytest.mark.parametrize("name", NETWORKS)
def test_flash_and_ram_are_those_of_the_file(name: str) -> None:
    _, content = known(name)
    costs = measure(NETWORKS[name])
    assert costs["flash_bytes"] == pytest.approx(len(content), rel=0.02)
    assert costs["ram_bytes"] == arena(content)


@pytest.mark.parametrize("name", space_names())
def test_random_candidates_of_the_shipped_spaces_have_files_of_their_costs(name: str) -> None:
    (architecture,) = candidates(name, 1)
    network = quantised(architecture, 4)
    content, costs = litert_file(network), measure(architecture)
    assert costs["flash_bytes"] == pytest.approx(len(content), rel=0.02)
    assert costs["ram_bytes"] == pytest.approx(arena(content), rel=0.05)
    logits = run_litert_int8(content)(network.examples)
    assert distance(logits, network.simulate(network.examples)) < 0.05


def arena(content: bytes) -> int:
    """Size of the arena that the planner needs for a file's tensors without content."""
    from ai_edge_litert.schema_py_generated import ModelT

    model = ModelT.InitFromPackedBuf(content)
    (graph,) = model.subgraphs
    alive: dict[int, list[int]] = {int(i): [0] for i in graph.inputs}
    for step, operator in enumerate(graph.operators):
        for i in (*operator.inputs, *operator.outputs):
            if graph.tensors[i].buffer == 0:
                alive.setdefault(int(i), []).append(step)
    sizes = {i: -(-int(graph.tensors[i].shape.prod()) // 16) * 16 for i in alive}
    return plan_arena([Tensor(sizes[i], min(used), max(used)) for i, used in alive.items()])


@pytest.mark.parametrize("name", NETWORKS)
def test_constants_are_aligned(name: str) -> None:
    _, content = known(name)
    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(content, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    filled = [each for each in buffers if each.DataLength()]
    places = [each._tab.Vector(each._tab.Offset(4)) for each in filled]
    assert filled
    assert all(place % 16 == 0 for place in places)


def test_a_quantisation_covers_its_range_and_zero() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0)):
        found = Quantisation.of(low, high)
        assert float(found.real(found.quantise(torch.tensor(0.0)))) == 0.0
        for real in (low, high):
            again = float(found.real(found.quantise(torch.tensor(real))))
            assert again == pytest.approx(real, abs=found.scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_tensorflow_lite_micro_runs_the_file_in_an_arena_of_the_size_of_its_cost(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tflite_micro")  # pip install tflite-micro: Linux on x86 only
    from tflite_micro.python.tflite_micro import runtime

    network, content = known(name)
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=2**22)
    images = network.input.quantise(network.examples[:5]).permute(0, 2, 3, 1).contiguous()
    rows = []
    for image in images.numpy():
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        rows.append(torch.from_numpy(interpreter.get_output(0).copy()))
    logits = network.output.real(torch.cat(rows))
    assert distance(logits, network.simulate(network.examples[:5])) < INT8_TOLERANCE
    interpreter.print_allocations()
    told = "".join(capfd.readouterr())
    assert f"Arena allocation head {measure(NETWORKS[name])['ram_bytes']} bytes" in told
