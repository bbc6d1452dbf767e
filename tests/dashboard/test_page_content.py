"""What a page shows and its address, without a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mbsearch.dashboard import app as dashboard_app
from mbsearch.dashboard.pages.compare import _accuracies, verdict
from mbsearch.dashboard.pages.front import sentence
from mbsearch.dashboard.pages.network import flat_recipe
from mbsearch.dashboard.pages.published import audit_command
from mbsearch.dashboard.studies import Snapshot
from mbsearch.dashboard.view import View, query, read_query
from mbsearch.study.records import State
from mbsearch.study.store import read_study


def test_the_command_of_an_audit_leads_to_the_folder_of_the_study() -> None:
    command = "mbsearch audit --space results/v2/space.yaml --name v2"
    assert audit_command(Path("results/v2"), {}) == command
    assert audit_command(Path("/far/v2"), {}).endswith("--name v2 --results /far")
    here = f"--name {Path.cwd().name} --results {Path.cwd().parent}"
    assert audit_command(Path(), {}).endswith(here)
    stamp = {"data": "my photos", "seed": 3}
    of_study = f"{command} --data 'my photos' --seed 3"
    assert audit_command(Path("results/v2"), {"stamp": stamp | {"weights": None}}) == of_study
    old = audit_command(Path("results/v2"), {"stamp": stamp})
    assert old == f"{of_study} --weights none", "it knew no donors"


def test_settings_of_a_supernet_count_where_one_was_trained() -> None:
    recipe = {"epochs": 4, "cutout": None, "supernet": {"steps": 9}, "evaluator": "training"}
    assert flat_recipe(recipe) == {"epochs": 4, "evaluator": "training"}
    assert flat_recipe({**recipe, "evaluator": "supernet"})["supernet steps"] == 9


def test_a_stopped_training_is_not_held_against_a_whole_one(studies: Path) -> None:
    first, second, *_ = read_study(studies / "first").records()
    stopped = replace(second, state=State.PRUNED)
    assert "the noise explains" in verdict(first, second)
    assert verdict(first, stopped).endswith("was stopped early says nothing of which is better.")
    promoted = replace(first, promotion=first.evaluation)
    assert set(_accuracies(promoted)) == {"accuracy, short training", "accuracy, longer training"}
    assert _accuracies(stopped)["accuracy, short training"].endswith("(stopped early)")


def test_the_sentence_is_in_the_unit_of_the_study_where_nothing_passes(studies: Path) -> None:
    records = [replace(r, metric="params") for r in read_study(studies / "first").records()]
    view = View.parse({"alphas": "0.99", "max_params": "500000"})
    none = Snapshot("a", "a", studies, records=tuple(r for r in records if not r.is_baseline))
    assert sentence(none, view).startswith("At 500 k parameters: no network is trained yet")


def test_what_is_told_instead_of_a_page_is_told_anew(studies: Path) -> None:
    running, failed = Snapshot("a", "a", studies), Snapshot("a", "a", studies)
    [record, *_] = read_study(studies / "failing").records()
    running = replace(running, records=(replace(record, state=State.RUNNING),))
    failed = replace(failed, records=(record,))
    stamps = [dashboard_app._stamp("/", {}, each) for each in (running, failed)]
    assert stamps[0] != stamps[1]
    assert dashboard_app._stamp("/", {}, replace(failed, name="b")) != stamps[1]


@pytest.mark.parametrize(
    "text",
    ["trial=x", "max_mult_adds=nan", "alphas=1e400,,&resolutions=-", "states=lost", "metric="],
)
def test_typed_nonsense_falls_to_the_defaults(text: str) -> None:
    assert View.parse(read_query(text)) == View()


def test_addresses_read_back() -> None:
    fields = {"study": "a b", "alphas": "0.5,1", "max_params": "2000000"}
    assert read_query(query(fields)) == fields
    assert View.parse(fields).alphas == (0.5, 1.0)
