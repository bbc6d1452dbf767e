"""Memory of int8 networks: figures of TensorFlow Lite Micro, and arenas without overlaps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import mbsearch as mb
from mbsearch.cli import main
from mbsearch.config.boards import BOARDS
from mbsearch.config.specification import load_specification
from mbsearch.cost.deployment import Tensor, plan_arena
from mbsearch.space.architecture import Input
from mbsearch.space.library import load_reference


def chain(*sizes: int) -> list[Tensor]:
    """Feature maps of a chain of operators: each is read by the next operator only."""
    operators = [max(0, i - 1) for i in range(len(sizes))]
    return [
        Tensor(size, first, i) for i, (size, first) in enumerate(zip(sizes, operators, strict=True))
    ]


# Of two files of TensorFlow's and MLCommons' repositories (November 2026), by the interpreter of
# the package tflite-micro: `print_allocations` of vww_96_int8.tflite and person_detect.tflite.
def test_v1_on_rgb_has_the_arena_and_the_size_of_known_person_detection_files() -> None:
    costs = mb.measure(
        load_reference("mobilenet_v1").replace(alpha=0.25, resolution=96, num_classes=2)
    )
    assert costs["ram_bytes"] == 73_728
    # TensorFlow's file is of the same network on grey images, without two planes of the stem. That
    # of MLPerf Tiny has 333,288 bytes, of which 22,144 are minimum and maximum of its weights and
    # 14,015 names.
    assert costs["flash_bytes"] == pytest.approx(300_568 + 2 * 9 * 8, rel=0.05)


def test_v1_on_grey_has_the_arena_of_tensorflows_person_detection() -> None:
    network = load_reference("mobilenet_v1").replace(
        alpha=0.25, resolution=96, inputs=Input(channels=1), num_classes=2
    )
    assert mb.measure(network)["ram_bytes"] == 55_296


def test_the_first_resnet_blocks_have_the_arena_of_mlperf_tinys_image_classification() -> None:
    image, wide = 32 * 32 * 3, 32 * 32 * 16
    shortcut = Tensor(wide, 0, 3)
    tensors = [Tensor(image, 0, 0), shortcut, Tensor(wide, 1, 2), Tensor(wide, 2, 3)]
    assert plan_arena([*tensors, Tensor(wide, 3, 4), Tensor(wide // 2, 4, 5)]) == 49_152


def test_an_arena_holds_all_that_is_alive_and_no_chain_needs_more_than_three_maps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes = [int(x) for x in rng.integers(1, 1000, rng.integers(2, 12))]
        arena = plan_arena(chain(*sizes))
        assert arena >= max(a + b for a, b in pairwise(sizes))
        assert arena <= sum(sorted(sizes)[-3:])


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "mnasnet_a1"])
def test_memory_follows_from_maps_and_weights(name: str) -> None:
    network = load_reference(name)
    costs = mb.measure(network)
    assert costs["weights"] < costs["flash_bytes"] < 4 * costs["params"]
    assert costs["ram_bytes"] >= costs["peak_activation_bytes"] / 4
    smaller = mb.measure(network.replace(resolution=112))
    # Kernels gain zeros where a stride meets a map of even sides.
    assert smaller["flash_bytes"] == pytest.approx(costs["flash_bytes"], rel=0.005)
    assert smaller["ram_bytes"] < costs["ram_bytes"]


def test_candidates_of_a_space_fit_a_board_or_name_the_memory_that_they_exceed() -> None:
    board = BOARDS["nano33ble"]
    space = load_specification("v2")
    limits = {"ram_bytes": board.ram, "flash_bytes": board.flash}
    bounded = space.with_settings({"limits": space.settings.limits.model_validate(limits)})
    said = {
        bounded.settings.excess(mb.measure(space.sample(seed))) or "within" for seed in range(50)
    }
    assert {text.split()[0] for text in said} == {"within", "ram_bytes", "flash_bytes"}


def test_a_board_sets_both_limits_and_an_unknown_one_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: object
) -> None:
    for words, expected in (("esp32s3", "512 KiB"), ("esp32s4", "did you mean")):
        with pytest.raises(SystemExit) as ended:
            main(["run", "--space", "tiny", "--board", words, "--dry-run"])
        shown = " ".join("".join(capsys.readouterr()).split())
        assert expected in shown
        assert ended.value.code == (0 if words == "esp32s3" else 2)
