"""What a page shows and its address, without a browser."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from answer_records import network

from mbsearch.analysis.answer import answer_text
from mbsearch.analysis.answer_selection import answer
from mbsearch.config.budgets import Budget
from mbsearch.cost import measure
from mbsearch.dashboard import app as dashboard_app
from mbsearch.dashboard.pages import compare, pages
from mbsearch.dashboard.pages.front import card
from mbsearch.dashboard.pages.network import flat_recipe
from mbsearch.dashboard.pages.published import audit_command
from mbsearch.dashboard.studies import Library, ResultsFolder, Snapshot
from mbsearch.dashboard.study_facts import study_facts
from mbsearch.dashboard.view import View, query, read_query
from mbsearch.figures.comparison import comparison
from mbsearch.study.opening import read_study
from mbsearch.study.progress_file import PROGRESS, RunProgress
from mbsearch.study.records import State, TrialRecord


def test_the_audit_command_names_the_folder_of_the_study() -> None:
    command = "mbsearch audit --space results/v2/space.yaml --name v2"
    assert audit_command(Path("results/v2"), {}) == command
    assert audit_command(Path("/far/v2"), {}).endswith("--name v2 --results /far")
    here = f"--name {Path.cwd().name} --results {Path.cwd().parent}"
    assert audit_command(Path(), {}).endswith(here)
    stamp = {"data": "my photos", "seed": 3}
    of_study = f"{command} --data 'my photos' --seed 3"
    assert audit_command(Path("results/v2"), {"stamp": stamp | {"weights": None}}) == of_study
    old = audit_command(Path("results/v2"), {"stamp": stamp})
    assert old == f"{of_study} --weights none", "its version had no donors"


def test_supernet_settings_are_shown_only_if_one_was_trained() -> None:
    recipe = {"epochs": 4, "cutout": None, "supernet": {"steps": 9}, "evaluator": "training"}
    assert flat_recipe(recipe) == {"epochs": 4, "evaluator": "training"}
    assert flat_recipe({**recipe, "evaluator": "supernet"})["supernet steps"] == 9


def compared(studies: Path, *pair: TrialRecord) -> str:
    """Return the comparison page of two networks as text."""
    snapshot = Snapshot("a", "a", studies, records=pair)
    fields = {"trial": str(pair[0].trial), "other": str(pair[1].trial)}
    return str(compare.layout(snapshot, fields, Library(ResultsFolder(studies))))


def test_a_pruned_training_is_not_compared_with_a_complete_one(studies: Path) -> None:
    first, second, *_ = read_study(studies / "first").records()
    stopped = replace(second, state=State.PRUNED)
    assert "significant given the noise" in comparison(first, second)
    assert comparison(first, stopped).endswith(
        "pruned training does not show which one is more accurate."
    )
    promoted = replace(first, promotion=first.evaluation)
    assert "accuracy, promotion" in compared(studies, promoted, stopped)
    assert "(pruned)" in compared(studies, promoted, stopped)
    assert "accuracy, promotion" not in compared(studies, first, second)
    assert "(pruned)" not in compared(studies, first, second)


def test_the_sentence_has_the_unit_of_the_objective_and_ignores_filters(studies: Path) -> None:
    records = [replace(r, metric="params") for r in read_study(studies / "first").records()]
    snapshot = Snapshot("a", "a", studies, records=tuple(records))
    shown, filtered = (
        answer_text(card(snapshot, View.parse({"max_params": "500000", **fields})).found)
        for fields in ({}, {"alphas": "0.99"})
    )
    assert shown.startswith("At 500 k parameters: use ")
    assert filtered == shown, "a filter must not say that a network is the best of the study"


def test_limits_on_other_costs_than_the_axis_are_the_first_question(studies: Path) -> None:
    records = read_study(studies / "first").records()
    least, most = min(r.costs["params"] for r in records), max(r.costs["params"] for r in records)
    limits = {"params": (least + most) // 2}
    settings = {"stamp": {"limits": limits, "objectives": ["accuracy", "mult_adds"]}}
    snapshot = Snapshot("first", "first", studies / "first", 0, tuple(records), settings)
    (budget,) = snapshot.findings.default_budgets
    first = card(snapshot, View.parse({}))
    assert first.found == answer(snapshot.findings, budget)
    assert answer_text(first.found).startswith(f"At {budget.label}: use ")
    timed = replace(snapshot, settings={"stamp": {"objectives": ["accuracy", "latency"]}})
    assert (snapshot.metric, timed.metric) == ("mult_adds", "latency_us"), "keys of record.costs"
    both = card(snapshot, View.parse({"max_mult_adds": str(max(r.cost for r in records))}))
    assert both.budget.bounds().keys() == {"params", "mult_adds"}


def test_a_budget_on_a_cost_that_a_study_does_not_have_is_not_asked_there(studies: Path) -> None:
    records = tuple(read_study(studies / "first").records())
    budgets = Budget.of({"latency_us": 5000}), Budget.of({"params": 10**9})
    snapshot = Snapshot("first", "first", studies / "first", 0, records, budgets=budgets)
    assert snapshot.questions == budgets[1:]
    assert card(snapshot, View.parse({})).budget == budgets[1]
    alone = replace(snapshot, budgets=budgets[:1])
    assert alone.questions == replace(snapshot, budgets=()).questions


def test_a_filter_does_not_compute_the_answers_again(studies: Path) -> None:
    records = tuple(read_study(studies / "first").records())
    snapshot = Snapshot("first", "first", studies / "first", 0, records)
    first = card(snapshot, View.parse({})).found
    assert card(snapshot, View.parse({"alphas": "0.25", "states": "complete"})).found is first
    assert card(snapshot, View.parse({"max_mult_adds": "1000000"})).found is not first
    assert replace(snapshot, version=1).answers == {}, "a new trial may change the answers"


@pytest.mark.parametrize("page", list(pages()))
def test_every_page_has_a_heading_even_if_there_is_nothing_to_show(
    page: str, tmp_path: Path
) -> None:
    library = Library(ResultsFolder(tmp_path))
    record = network(0, 0.7, 10**7)
    one = (replace(record, costs=measure(record.architecture)),)
    for records in ((), one):
        shown = str(
            dashboard_app._body(page, {}, Snapshot("a", "a", tmp_path, 0, records), library)
        )
        assert "H1(" in shown or "order=1" in shown, f"{len(records)} networks"


def test_a_changed_notice_is_drawn_again(studies: Path) -> None:
    running, failed = Snapshot("a", "a", studies), Snapshot("a", "a", studies)
    [record, *_] = read_study(studies / "failing").records()
    running = replace(running, records=(replace(record, state=State.RUNNING),))
    failed = replace(failed, records=(record,))
    keys = [dashboard_app._redraw_key("/", {}, each) for each in (running, failed)]
    assert keys[0] != keys[1]
    assert dashboard_app._redraw_key("/", {}, replace(failed, name="b")) != keys[1]


@pytest.mark.parametrize(
    "text",
    ["trial=x", "max_mult_adds=nan", "alphas=1e400,,&resolutions=-", "states=lost", "metric="],
)
def test_invalid_address_fields_fall_back_to_defaults(text: str) -> None:
    assert View.parse(read_query(text)) == View()


def test_an_address_survives_a_round_trip() -> None:
    fields = {"study": "a b", "alphas": "0.5,1", "max_params": "2000000"}
    assert read_query(query(fields)) == fields
    assert View.parse(fields).alphas == (0.5, 1.0)


def test_the_header_states_images_weights_proxy_and_what_is_running(
    studies: Path, tmp_path: Path
) -> None:
    ended = read_study(studies / "first").records()
    running = replace(ended[-1], state=State.RUNNING, ended=None, trial=10**4)
    settings = {"stamp": {"data": "embedded", "weights": "none", "proxy": {"epochs": 4}}}
    progress = RunProgress("search", 3, 10, 1, 420.0, time.time())
    (tmp_path / PROGRESS).write_text(json.dumps(asdict(progress)))
    snapshot = Snapshot("a", "a", tmp_path, records=(*ended, running), settings=settings)
    assert study_facts(snapshot) == (
        "Fashion-MNIST (built-in) · from scratch · proxy of 4 epochs · 1 running, 7 min left"
    )
    stamp = {"data": "photos", "weights": "cd9a9f1adb4b77db"}
    inherited = {"stamp": stamp, "donor": {"title": "EfficientNet-Lite0, trained on ImageNet"}}
    assert study_facts(replace(snapshot, settings=inherited, records=())) == (
        "photos · weights of EfficientNet-Lite0, trained on ImageNet"
    )
    assert study_facts(replace(snapshot, settings={}, records=tuple(ended))) == ""
