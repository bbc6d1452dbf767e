from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluator import FakeEvaluator
from fake_search import TINY
from hypothesis import given
from hypothesis import strategies as st
from tiny_objectives import table, towards

from mbsearch.analysis.answer import answer_text
from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.choice_effects import cost_bands
from mbsearch.analysis.findings import Findings, natural_budgets
from mbsearch.analysis.front import front_of
from mbsearch.cli import main
from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.schema import json_schema
from mbsearch.config.specification import load_specification, read_specification
from mbsearch.cost import measure
from mbsearch.cost.metrics import COSTS, LATENCY, quantity
from mbsearch.cost.units import parse_duration
from mbsearch.dashboard.app import _objective
from mbsearch.dashboard.pages.front import card
from mbsearch.dashboard.studies import Snapshot
from mbsearch.dashboard.view import View
from mbsearch.errors import SpecError, StorageError
from mbsearch.execution.local import LocalProcesses
from mbsearch.figures.front import front_figure
from mbsearch.figures.search import hypervolume_figure
from mbsearch.report.html import document
from mbsearch.report.result_files import write_results
from mbsearch.retraining.competitors import equal_cost_references
from mbsearch.search.driver import Driver
from mbsearch.search.factory import make_sampler
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import TrialRecord
from mbsearch.study.store import create_study
from mbsearch.study_run import run

EXACT = [name for name in COSTS if name != "latency"]


@pytest.fixture(scope="module")
def by_params(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrialRecord]]:
    """A study of baselines and 8 trials, by accuracy and params."""
    folder = tmp_path_factory.mktemp("params") / "tiny"
    space = towards("accuracy", "params")
    store = create_study(open_journal(folder / JOURNAL, create=True), "tiny")
    store.search.sampler = make_sampler("cost-aware", space, seed=0)
    with LocalProcesses(FakeEvaluator(), 1) as executor:
        Driver(store, space, executor, 8, 0).run()
    return folder, store.records()


@pytest.mark.parametrize("name", EXACT)
def test_a_search_and_its_texts_use_the_objective(tmp_path: Path, name: str) -> None:
    space = towards("accuracy", name)
    found = run(space, trials=12, folder=tmp_path / "s", table=table(tmp_path), jobs=1)
    front = front_of(found.records)
    by_hand = {
        r.trial
        for r in found.records
        if not any(
            (o.accuracy >= r.accuracy and o.costs[name] < r.costs[name])
            or (o.accuracy > r.accuracy and o.costs[name] <= r.costs[name])
            for o in found.records
        )
    }
    assert {r.trial for r in front} <= by_hand
    assert [(r.accuracy, r.costs[name]) for r in front] == sorted(
        {(r.accuracy, r.costs[name]) for r in found.records if r.trial in by_hand},
        key=lambda pair: pair[1],
    )
    store = read_study(tmp_path / "s")
    assert store.search.metric_names == ["accuracy", f"log10 {name}"]
    for trial, record in zip(store.search.trials, found.records, strict=True):
        assert trial.values == [record.accuracy, math.log10(record.costs[name])]
    assert {record.cost for record in found.records} == {r.costs[name] for r in found.records}


def test_the_sampler_starts_at_the_ends_of_the_objective(
    by_params: tuple[Path, list[TrialRecord]],
) -> None:
    searched = [r.costs["params"] for r in by_params[1] if not r.is_baseline]
    every = [measure(TINY.decode(p))["params"] for p in TINY.enumerate_params()]
    assert searched[:2] == [min(every), max(every)]


def test_sentences_name_the_objective(by_params: tuple[Path, list[TrialRecord]]) -> None:
    folder, records = by_params
    budgets = natural_budgets(records)
    costs = [r.costs["params"] for r in records]
    assert all(min(costs) <= budget < 2 * max(costs) for budget in budgets)
    found = answer(Findings(records), Budget(params=500_000))
    assert found.sentence().startswith(f"At 500 k parameters: use {found.name}, ")
    assert found.record.accuracy == max(r.accuracy for r in records if r.costs["params"] <= 500_000)
    assert all(band.name.endswith(" k") for band in cost_bands(records))
    write_results(folder, Findings(records), "title")
    rows = (folder / "front.csv").read_text().splitlines()
    column = rows[0].split(",").index("params")
    assert [int(row.split(",")[column]) for row in rows[1:]] == [
        r.costs["params"] for r in front_of(records)
    ]
    page = document(Findings(records), "title")
    assert f"At 500 k parameters: use {found.name}, " in page
    assert "Parameters, at most" in page
    assert front_figure(records).layout.xaxis.title.text == "Parameters"
    assert hypervolume_figure(records).layout.yaxis.title.text.endswith("log10 parameters")


def test_status_answers_in_the_unit_of_the_objective(
    by_params: tuple[Path, list[TrialRecord]], capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (["--at", "500k"], "At 500 k parameters: "),
        (["--budget", "500k"], "At 500 k parameters: "),
        (["--budget", "params=500k,mult_adds=1k"], "no trained network is within this budget"),
        (["--json"], '"params"'),
        (["--json", "--at", "500k"], '"sentence": "At 500 k parameters: '),
        (["--at", "5ms"], "--at: expected a positive number"),
    ):
        with pytest.raises(SystemExit):
            main(["status", str(by_params[0]), *arguments])
        captured = capsys.readouterr()
        assert said in captured.out + captured.err


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("peak_activation_bytes", 1010 * 2**10, "1,010 KiB"),
        ("peak_activation_bytes", 1500 * 2**20, "1,500 MiB"),
        ("latency_us", 1.23e6, "1,230 ms"),
        ("latency_us", 999.6e3, "1,000 ms"),
        ("mult_adds", 12.345e9, "12,345 M"),
        ("mult_adds", 300_774_272, "300.8 M"),
        ("mult_adds", 300_000_000, "300 M"),
        ("params", 500_000, "500 k"),
    ],
)
def test_no_cost_is_in_scientific_notation(metric: str, value: float, text: str) -> None:
    assert quantity(metric, value) == text


def test_no_number_is_cut_off_where_the_terminal_is_narrow(
    by_params: tuple[Path, list[TrialRecord]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        main(["status", str(by_params[0])])
    shown = capsys.readouterr().out
    assert "…" not in shown
    for record in front_of(by_params[1]):
        assert quantity("params", record.cost) in shown


def test_a_mobilenet_of_equal_cost_is_of_equal_params() -> None:
    network = load_specification("v2").sample(seed=1)
    target = measure(network)["params"]
    for rival in equal_cost_references(network, "params"):
        assert measure(rival.architecture)["params"] == pytest.approx(target, rel=0.1)


def test_an_older_study_has_mult_adds_as_objective_and_resumes(tmp_path: Path) -> None:
    """Such a study has no objectives in its identity, no latency among its limits, no metric."""
    truth = table(tmp_path)
    run(TINY, trials=3, folder=tmp_path / "s", table=truth, jobs=1)
    journal = tmp_path / "s" / JOURNAL
    text = re.sub(r'"mbsearch":\d+,|,"chain":"\w+"', "", journal.read_text())
    for new in (
        '"objectives":["accuracy","mult_adds"],',
        ',"latency":null',
        '"metric":"mult_adds",',
    ):
        assert new in text
        text = text.replace(new, "")
    journal.write_text(text)
    assert all(r.metric == "mult_adds" for r in read_study(tmp_path / "s").records())
    assert len(run(TINY, trials=5, folder=tmp_path / "s", table=truth, jobs=1).records) == 5
    with pytest.raises(StorageError, match=r"objectives was \['accuracy', 'mult_adds'\]"):
        run(towards("accuracy", "params"), trials=2, folder=tmp_path / "s", table=truth, jobs=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("objectives: [accuracy, parms]", "objectives.1: expected one of .*did you mean 'params'"),
        (
            "objectives: [params, accuracy]",
            "objectives: expected accuracy, .* and one of mult_adds",
        ),
        (
            "objectives: [accuracy]",
            "objectives: expected accuracy, .* and one of mult_adds",
        ),
        (
            "objectives: params",
            "objectives: expected accuracy, .* and one of .*got 'params'",
        ),
        ("limits: {latency: 5}", "limits.latency: expected a time with its unit.*got 5"),
        ("limits: {latency: 0ms}", "limits.latency: expected a time with its unit"),
    ],
)
def test_mistakes_in_a_file_are_one_message(line: str, message: str) -> None:
    unlimited = towards("accuracy", "mult_adds", limits=Limits())
    with pytest.raises(SpecError, match=message):
        read_specification(parse_document(f"{unlimited.to_yaml()}{line}\n", "mine.yaml"))


def test_mistakes_on_the_command_line_are_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--objective", "latencies"], "--objective: expected one of mult_adds, .*'latency'"),
        (["--limit", "latency=5"], "--limit latency: expected a time with its unit"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["run", "--space", "tiny", *arguments])
        assert ended.value.code == 2
        said = capsys.readouterr().err.replace("\n", " ")
        assert re.search(message, said)


def test_a_file_keeps_objectives_and_latency_limits() -> None:
    space = towards("accuracy", "latency", limits=Limits.model_validate({"latency": "5ms"}))
    again = read_specification(parse_document(space.to_yaml(), "again.yaml"))
    assert again.settings == space.settings
    assert again.settings.metric == LATENCY
    assert again.settings.limits.bounds() == {LATENCY: 5000}
    assert "objectives" not in TINY.to_yaml()
    schema = json_schema()["properties"]["objectives"]
    assert schema["prefixItems"][1]["enum"] == list(COSTS)


@given(st.integers(1, 10**9))
def test_times_are_read_in_every_unit(microseconds: int) -> None:
    assert parse_duration(f"{microseconds}us") == microseconds
    assert parse_duration(f"{microseconds / 1000:.3f} ms") == microseconds


def test_the_dashboard_opens_on_the_objective(
    by_params: tuple[Path, list[TrialRecord]],
) -> None:
    records = by_params[1]
    snapshot = Snapshot("tiny", "tiny", Path(), records=tuple(records))
    assert _objective(snapshot) == {"metric": "params"}
    plain = tuple(replace(r, metric="mult_adds") for r in records)
    assert _objective(replace(snapshot, records=plain)) == {}
    view = View.parse({"max_params": "140000"})
    cheap = [r for r in records if r.costs["params"] <= 140_000]
    best = max(cheap, key=lambda r: (r.accuracy, -r.costs["params"]))
    text = answer_text(card(snapshot, view).found)
    assert text.startswith(f"At 140 k parameters: use {best.label}, ")
