"""Adding a metric, a block type or a row of the family table edits one file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from edited_package import run_edited

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
BLOCK_CLASS, METRIC_ROW, EVALUATOR = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

METRIC_SCRIPT = """
import json
from pathlib import Path

import mbsearch as mb
from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.cli import main
from mbsearch.config.budgets import Budget
from mbsearch.config.specification import load_specification, read_specification
from mbsearch.dashboard.view import View
from mbsearch.figures.front import front_figure
from mbsearch.report.html import document
from mbsearch.study_run import run
from mbsearch.space.yaml_source import parse_document

tiny = load_specification("tiny").to_dict()
tiny |= {"objectives": ["accuracy", "depth"], "limits": {"depth": 40}, "budgets": [15]}
space = read_specification(parse_document(json.dumps(tiny), "tiny.yaml"))
deep = mb.measure(mb.load("mobilenet_v2"))
assert deep["depth"] == 54
assert space.settings.excess(deep) == "depth 54 is above the limit of 40"
assert space.settings.budgets == (Budget.of({"depth": 15}),)

table = {}
for params in space.enumerate_params():
    key = space.decode(params).fingerprint
    table[key] = int(key[:4], 16) / 2**16
Path("table.json").write_text(json.dumps(table))
records = run(space, trials=6, folder=Path("study"), table=Path("table.json"), jobs=1).records
assert {r.cost for r in records} == {r.costs["depth"] for r in records}
assert answer(Findings(records), Budget.of({"depth": 15})).sentence().startswith("At 15 layers: ")
assert front_figure(records).layout.xaxis.title.text == "Depth in layers"
assert "<th>Depth</th>" in document(Findings(records), "title")
assert View.parse({"max_depth": "15"}).budgets == {"depth": 15}
assert "depth" in mb.load_results("study")
for words in (["status", "study", "--budget", "depth=15"], ["count", "mobilenet_v2"]):
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code
"""

BLOCK_SCRIPT = """
import jsonschema
import torch
import yaml

import mbsearch as mb
from mbsearch.config.schema import json_schema
from mbsearch.config.specification import read_specification
from mbsearch.figures.stages import drawing
from mbsearch.space.yaml_source import parse_document

text = '''
name: toy
resolution: 32
num_classes: 10
stem: {channels: 8}
stages:
  - {block: {choices: [twice, separable]}, channels: 16, stride: 2}
head: {}
'''
jsonschema.validate(yaml.safe_load(text), json_schema())
space = read_specification(parse_document(text, "toy.yaml"))
network = space.decode({"stages.0.block": "twice"})
# 3 -> 8 on 16 x 16, 8 -> 16 -> 16 on 8 x 8, a classifier.
assert mb.measure(network)["mult_adds"] == 256 * 9 * 24 + 64 * 9 * (128 + 256) + 160
module = mb.build(network)
assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
params = sum(p.numel() for p in module.parameters())
assert params == mb.measure(network)["params"]
assert "twice" in [trace.name for trace in drawing(network).data]
"""


FAMILY_ROW = """
_ROWS = (
    Family(
        key="mnasnet_a1",
        name="MnasNet-A1",
        smallest_alpha=0.35,
        label="MnasNet A1",
        short="Mnas",
        colour="#0072B2",
        symbol="cross",
        label_side="top left",
    ),"""

FAMILY_SCRIPT = """
from mbsearch.config.families import is_published, scaled_reference
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.figures.front import front_figure
from mbsearch.search.references import chosen_references
from mbsearch.study.records import Evaluation, State, TrialRecord

space = load_specification("v2")
space = space.with_settings({"budgets": space.settings.budgets[-1:]})
found = [network for family, network in chosen_references(space) if family == "mnasnet_a1"]
assert found
assert found[0].name.startswith("MnasNet-A1 ")
assert any(is_published("mnasnet_a1", network) for network in found)
evaluation = Evaluation(0.5, 1.0, 1.0, 0, 32, (), "fake", {}, "none")
network = scaled_reference("mnasnet_a1", 0.5, 96)
costs = measure(network)
record = TrialRecord(0, "mnasnet_a1", State.COMPLETE, network, costs, {}, evaluation)
assert record.label == "MnasNet-A1 0.5/96"
(line,) = [trace for trace in front_figure([record]).data if trace.name == "MnasNet A1"]
assert line.marker.color == "#0072B2"
"""


@pytest.mark.slow
def test_a_metric_is_one_row_of_one_file(tmp_path: Path) -> None:
    end = "\n)\nMETRICS = {"
    shown = run_edited(
        tmp_path, "cost/metrics.py", end, f"\n{METRIC_ROW.rstrip()},{end}", METRIC_SCRIPT
    )
    assert "Depth " in shown  # the column of ``mbsearch status``
    assert "Depth (layers)" in shown  # the line of ``mbsearch count``


@pytest.mark.slow
def test_a_block_type_is_one_class_of_one_file(tmp_path: Path) -> None:
    new = f"{BLOCK_CLASS}\n\nAnyStage = Twice | "
    run_edited(tmp_path, "space/blocks.py", "AnyStage = ", new, BLOCK_SCRIPT)


def test_the_evaluator_of_the_page_is_that_of_the_example() -> None:
    example = (Path(__file__).parents[1] / "examples" / "own_evaluator.py").read_text()
    assert EVALUATOR in example


@pytest.mark.slow
def test_a_reference_family_is_one_row_of_one_file(tmp_path: Path) -> None:
    run_edited(tmp_path, "config/families.py", "\n_ROWS = (", FAMILY_ROW, FAMILY_SCRIPT)
