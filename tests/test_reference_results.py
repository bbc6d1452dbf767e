"""The page of reference results, and the files that it is written from."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from PIL import Image

from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.space.architecture import Architecture

ROOT = Path(__file__).parents[1]
KEPT = sorted(path.name for path in (ROOT / "results" / "reference").iterdir())


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("reference_results")


def test_the_page_is_that_of_the_kept_studies(script: ModuleType) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page()
    assert set(KEPT) <= script.STUDIES.keys()


def test_the_readme_quotes_the_answer_on_photos_and_pictures_it() -> None:
    (row,) = json.loads((ROOT / "results/reference/clothing/answers.json").read_text())
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert row["sentence"] in readme
    with Image.open(ROOT / "docs" / "front.png") as picture:
        shown = picture.info["Description"]
    facts, *clauses = re.split(r"; (?=[+-]|no )", row["sentence"].partition(", ")[2])
    assert facts in shown
    assert clauses
    for clause in clauses:
        assert clause.lower() in shown.lower()
    with Image.open(ROOT / "docs" / "dashboard-network.png") as picture:
        assert row["name"] in picture.info["Description"]


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_study_is_complete_and_small(name: str, script: ModuleType) -> None:
    folder = ROOT / "results" / "reference" / name
    expected = {*script.FILES, *script.CARD, script.ANSWERS, script.REPORT}
    assert {path.name for path in folder.iterdir()} == expected
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3_000_000
    assert load_specification(folder / "space.yaml").size > 1


@pytest.mark.parametrize("name", KEPT)
def test_answers_are_networks_of_the_tables_at_their_cost(name: str) -> None:
    folder = ROOT / "results" / "reference" / name
    trials = pd.read_csv(folder / "trials.csv").set_index("fingerprint")
    retrained = set(pd.read_csv(folder / "retrain.csv")["fingerprint"])
    for row in json.loads((folder / "answers.json").read_text()):
        network = Architecture.model_validate(row["architecture"])
        costs = measure(network)
        assert network.fingerprint == row["fingerprint"]
        assert row["fingerprint"] in retrained or row["fingerprint"] in trials.index
        for metric, bound in row["budget"].items():
            assert row["costs"][metric] == costs[metric] <= bound
