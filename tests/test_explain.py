"""The explanation of a network's cost: totals, products, standard convolutions, words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mbsearch.cli import main
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.cost.explanation import Explanation, explain
from mbsearch.dashboard.pages import network as network_page
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import load_reference, reference_names, space_names
from mbsearch.study.records import TrialRecord


def networks() -> list[Architecture]:
    """Return the references, and random networks of every packaged space."""
    spaces = [load_specification(name) for name in space_names()]
    return [
        *map(load_reference, reference_names()),
        *(space.sample(seed) for space in spaces for seed in range(10)),
    ]


def of(name: str) -> Explanation:
    return explain(load_reference(name))


def test_totals_equal_the_measured_costs_and_each_product_its_layer() -> None:
    for network in networks():
        found, costs = explain(network), measure(network)
        assert found.mult_adds == costs["mult_adds"]
        assert found.params == costs["params"]
        for block in found.blocks:
            for term in (*block.terms, *filter(None, [block.standard])):
                product = math.prod(value for _, value in term.factors) if term.factors else 0
                assert product == term.counts.mult_adds


def test_standard_convolutions_in_the_place_of_v1_blocks_are_those_of_its_table_4() -> None:
    conv = measure(load_reference("conv_mobilenet_v1"))["mult_adds"]
    assert of("mobilenet_v1").standard_mult_adds == conv


def test_the_share_of_a_separable_block_is_that_of_the_paper() -> None:
    for block in of("mobilenet_v1").blocks[1:-1]:
        channels = block.out_shape.channels
        share = block.mult_adds / block.standard_mult_adds
        assert share == pytest.approx(1 / channels + 1 / 9)
        assert block.words.startswith("The same as") or f"= {share:.3f}." in block.words


def test_a_block_like_the_one_before_is_explained_once() -> None:
    words = {block.name: block.words for block in of("mobilenet_v2").blocks}
    assert words["stages.2.2"] == "The same as stages.2.1."
    assert "does not count" in words["stages.2.1"], "the shortcut"
    assert "192 to 192 channels" in words["stages.2.1"], "the width that the block filters"
    assert "without an activation" in words["stages.2.1"]


def test_a_standard_convolution_saves_nothing() -> None:
    for block in of("conv_mobilenet_v1").blocks[1:-1]:
        assert block.mult_adds == block.standard_mult_adds
        assert "nothing is saved" in block.words or "same as" in block.words


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["explain", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_command_prints_80_columns_and_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained(capsys, "mobilenet_v3_large", "--alpha", "0.5", "--resolution", "96")
    tables = [line for line in shown.splitlines() if not line.endswith(".")]
    assert max(map(len, tables)) <= 80
    found = explain(load_reference("mobilenet_v3_large").replace(alpha=0.5, resolution=96))
    for text in (found.summary, *(block.words for block in found.blocks)):
        assert text in shown


def test_the_json_has_every_block(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(explained(capsys, "mobilenet_v1", "--json"))
    assert found["mult_adds"] == sum(block["mult_adds"] for block in found["blocks"])
    assert found["blocks"][1]["standard"]["numbers"] == "3·3·32·64·112·112"


def test_the_resolution_may_be_a_rectangle(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(explained(capsys, "mobilenet_v1", "--resolution", "96x160", "--json"))
    network = load_reference("mobilenet_v1").replace(resolution="96x160")
    assert found["mult_adds"] == measure(network)["mult_adds"]


def test_a_space_is_explained_by_the_network_of_the_seed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = json.loads(explained(capsys, "v2", "--seed", "3", "--json"))
    assert found["mult_adds"] == measure(load_specification("v2").sample(3))["mult_adds"]


def test_the_network_of_a_trial_is_explained(
    study: tuple[Path, list[TrialRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, records = study
    record = records[-1]
    found = json.loads(explained(capsys, str(folder), "--trial", str(record.trial), "--json"))
    assert found["mult_adds"] == record.costs["mult_adds"]


def test_the_network_page_shows_the_same_text(study: tuple[Path, list[TrialRecord]]) -> None:
    record = study[1][-1]
    page = str(network_page._explanation(record))
    found = explain(record.architecture)
    assert found.summary in page
    for block in found.blocks:
        assert block.words in page
        assert all(cell in page for row in block.rows() for cell in row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mobilenet_v2", "--seed", "1"], "--seed: expected a search space or relu"),
        (["mobilenet_v2", "-o", "x.svg"], "--output x.svg: expected it with `explain relu`"),
        (["relu", "-o", "x.png"], "--output x.png: expected a file that ends in .svg"),
        (["relu", "--alpha", "1"], "--alpha: expected a network with it, got relu"),
    ],
)
def test_an_option_that_does_not_apply_is_an_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
