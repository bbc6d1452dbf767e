from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_search import search

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.tables import to_frame
from mbsearch.config.budgets import Budget
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.errors import DataError, EvaluationError, SpecError, StorageError
from mbsearch.execution.protocol import Task
from mbsearch.execution.table import TableEvaluator, read_table, table_classes
from mbsearch.space.library import load_reference
from mbsearch.study.opening import read_study
from mbsearch.study.records import State
from mbsearch.study.store import StudyStore
from mbsearch.study_run import run

TINY = load_specification("tiny")
ENCODINGS = list(TINY.enumerate_params())
ACCURACIES = {TINY.decode(p).fingerprint: 0.5 + i / 1000 for i, p in enumerate(ENCODINGS)}


def by_choices(path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*(c.name for c in TINY.choices), "accuracy"])
        writer.writeheader()
        for params in ENCODINGS:
            writer.writerow(params | {"accuracy": ACCURACIES[TINY.decode(params).fingerprint]})
    return path


def by_fingerprint(path: Path) -> Path:
    path.write_text(json.dumps(ACCURACIES))
    return path


def as_list(path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        params | {"accuracy": ACCURACIES[TINY.decode(params).fingerprint]} for params in ENCODINGS
    ]
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("write", "name"), [(by_choices, "t.csv"), (by_fingerprint, "t.json"), (as_list, "t.json")]
)
def test_every_form_of_table_gives_the_accuracies(tmp_path: Path, write: Any, name: str) -> None:
    assert read_table(write(tmp_path / name), TINY) == pytest.approx(ACCURACIES)


def test_a_table_of_excel_begins_with_a_mark(tmp_path: Path) -> None:
    path = by_choices(tmp_path / "t.csv")
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_table(path, TINY) == pytest.approx(ACCURACIES)


def test_without_trained_mobilenets_none_is_mentioned(tmp_path: Path) -> None:
    table = by_fingerprint(tmp_path / "truth.json")
    records = run(TINY, trials=3, folder=tmp_path / "study", table=table, jobs=1).records
    found = answer(Findings(records), Budget(mult_adds=20_000_000))
    assert found.margins == ()
    assert found.best.accuracy.exact, "a table has no noise"
    assert re.search(r"validation accuracy 0\.\d+ \(screening\)", found.sentence())


def test_the_number_of_trials_is_a_total(tmp_path: Path) -> None:
    """Fewer than there are add nothing, more add the difference."""
    table = by_fingerprint(tmp_path / "truth.json")
    for trials, expected in ((7, 7), (7, 7), (2, 7), (12, 12)):
        records = run(TINY, trials=trials, folder=tmp_path / "s", table=table, jobs=1).records
        assert len(records) == expected


def test_an_unknown_sampler_leaves_nothing_behind(tmp_path: Path) -> None:
    table = by_fingerprint(tmp_path / "truth.json")
    with pytest.raises(SpecError, match="did you mean 'cost-aware'"):
        run(TINY, trials=3, folder=tmp_path / "s", table=table, sampler="cost_aware")
    assert not (tmp_path / "s").exists()


def test_a_search_reads_its_accuracies_from_the_table(tmp_path: Path) -> None:
    table = by_fingerprint(tmp_path / "truth.json")
    result = run(TINY, trials=20, folder=tmp_path / "study", table=table, jobs=2)
    assert len(result.records) == 20
    assert result.unpromoted is None, "there is nothing to train longer"
    assert all(r.accuracy == ACCURACIES[r.fingerprint] for r in result.records)


def test_a_table_is_the_last_word(tmp_path: Path) -> None:
    """There is no growth after a table; an older study without growth resumes."""
    proxy = Proxy.model_validate({"evaluator": "supernet"})
    assert proxy.growth > 0 == Proxy().growth
    table, space = by_fingerprint(tmp_path / "t.json"), TINY.with_settings({"proxy": proxy})
    run(space, trials=5, folder=tmp_path / "study", table=table, jobs=1)
    store = read_study(tmp_path / "study")
    stamp = store.settings()["stamp"]
    assert stamp["proxy"].pop("growth") == 0
    store.search.set_user_attr("stamp", stamp)
    assert len(run(space, trials=10, folder=tmp_path / "study", table=table, jobs=1).records) == 10


def test_the_trials_of_a_study_are_a_table(tmp_path: Path) -> None:
    first = run(
        TINY, trials=10, folder=tmp_path / "a", table=by_choices(tmp_path / "t.csv"), jobs=1
    )
    to_frame(first.records).to_csv(tmp_path / "trials.csv", index=False)
    table = read_table(tmp_path / "trials.csv", TINY)
    assert table == pytest.approx({r.fingerprint: r.accuracy for r in first.records})
    stopped = replace(first.records[0], state=State.PRUNED)
    to_frame([stopped, *first.records[1:]]).to_csv(tmp_path / "trials.csv", index=False)
    os.utime(tmp_path / "trials.csv", (1, 1))
    assert len(read_table(tmp_path / "trials.csv", TINY)) == len(table) - 1, "trained in part"


def test_the_trials_of_any_images_are_a_table(tmp_path: Path) -> None:
    """Training gives a space the images' classes, and so other fingerprints."""
    trained, _ = search(tmp_path / "a", trials=5, space=TINY.with_classes(3))
    records = [r for r in trained.records() if not r.is_baseline]
    path = tmp_path / "trials.csv"
    to_frame(records).to_csv(path, index=False)
    found = run(TINY, trials=60, folder=tmp_path / "b", table=path, jobs=1).records
    known = {r.fingerprint: r.accuracy for r in found if r.state is State.COMPLETE}
    expected = {r.fingerprint: r.accuracy for r in records if r.fingerprint in known}
    assert known == pytest.approx(expected) != {}
    path.write_text(path.read_text().replace(",3,", ",some,"))
    with pytest.raises(DataError, match=r"trials.csv:2: num_classes: expected a number >= 1, got"):
        table_classes(path)


def test_a_folder_has_one_study_whatever_its_space_is_called(tmp_path: Path) -> None:
    table, folder = by_fingerprint(tmp_path / "truth.json"), tmp_path / "study"
    run(TINY, trials=3, folder=folder, table=table, jobs=1)
    renamed = SearchSpecification("other", TINY.template, TINY.settings)
    assert len(run(renamed, trials=6, folder=folder, table=table, jobs=1).records) == 6
    changed = SearchSpecification("other", {**TINY.template, "alpha": 0.5}, TINY.settings)
    with pytest.raises(StorageError, match="its space has other choices now"):
        run(changed, trials=3, folder=folder, table=table, jobs=1)
    assert len(read_study(folder).records()) == 6


def test_a_study_of_a_packaged_space_that_has_changed_keeps_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table, folder = by_fingerprint(tmp_path / "truth.json"), tmp_path / "study"
    former = SearchSpecification(TINY.name, {**TINY.template, "alpha": 0.5}, TINY.settings)
    run(former, trials=3, folder=folder, table=table, jobs=1)
    records = run(TINY, trials=5, folder=folder, table=table, jobs=1).records
    assert len(records) == 5
    assert {r.architecture.alpha for r in records} == {0.5}
    assert sum("has changed since" in line for line in caplog.messages) == 1
    other = SearchSpecification("other", TINY.template, TINY.settings)
    with pytest.raises(StorageError, match="its space has other choices now"):
        run(other, trials=5, folder=folder, table=table, jobs=1)


def test_a_kill_before_the_study_is_stamped_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, folder = by_fingerprint(tmp_path / "truth.json"), tmp_path / "study"

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StudyStore, "name_objectives", kill)
        with pytest.raises(KeyboardInterrupt):
            run(TINY, trials=3, folder=folder, table=table, jobs=1)
    run(TINY, trials=3, folder=folder, table=table, jobs=1)
    settings = read_study(folder).settings()
    assert {"stamp", "space_yaml", "versions"} <= settings.keys()


def test_one_seed_and_one_worker_give_one_study(tmp_path: Path) -> None:
    table = by_fingerprint(tmp_path / "truth.json")
    first, second = (
        [
            (r.trial, r.fingerprint)
            for r in run(TINY, trials=25, folder=tmp_path / n, table=table, jobs=1).records
        ]
        for n in "ab"
    )
    assert first == second


def test_a_network_that_is_not_in_the_table_fails_its_trial(tmp_path: Path) -> None:
    evaluator = TableEvaluator(by_fingerprint(tmp_path / "truth.json"), TINY)
    with pytest.raises(EvaluationError, match=r"truth\.json: the network [0-9a-f]+ is not in"):
        evaluator.evaluate(Task(load_reference("mobilenet_v2"), seed=0))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "fingerprint\nabc\n", r"t\.csv:1: expected a column 'accuracy', .* got 'finger"),
        ("t.json", '[{"alpha": 1}]', r"t\.json:row 1: expected a value for 'accuracy', got none"),
        (
            "t.csv",
            "fingerprint,accuracy\nabc,87\n",
            r"t\.csv:2: accuracy: expected 0 to 1, got '87'",
        ),
        ("t.csv", "fingerprint,accuracy\nabc,good\n", r"expected 0 to 1, got 'good'"),
        (
            "t.csv",
            "alpha,accuracy\n0.5,0.5\n",
            r"t\.csv:2: expected a fingerprint, or every choice",
        ),
        (
            "t.csv",
            'fingerprint,accuracy\nabc,"0.5' + 140_000 * " ",
            r"t\.csv:2: expected CSV, got an error: field larger",
        ),
        ("t.csv", "fingerprint,accuracy\n", "expected at least one network with an accuracy"),
        ("t.json", "{", r"t\.json: expected JSON, got an error"),
        ("t.json", "3", "expected a list of objects, or one object"),
        ("t.json", "[3]", "expected a list of objects, or one object"),
    ],
)
def test_a_bad_table_is_named_with_its_row(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name, TINY)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none.csv", TINY)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="in UTF-8 or UTF-16, got byte"):
        read_table(tmp_path / "binary.csv", TINY)


def test_a_limit_of_minutes_is_kept_and_the_next_run_resumes(tmp_path: Path) -> None:
    import time

    table = by_fingerprint(tmp_path / "truth.json")
    started = time.monotonic()
    run(TINY, trials=None, folder=tmp_path / "s", table=table, minutes=0.1, jobs=1)
    assert time.monotonic() - started < 60
    before = [r for r in read_study(tmp_path / "s").records() if r.state is State.COMPLETE]
    assert 0 < len(before) <= TINY.size
    after = run(TINY, trials=None, folder=tmp_path / "s", table=table, jobs=1)
    assert after.exhausted
    assert {r.trial for r in before} <= {r.trial for r in after.records}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": 0}, "trials: expected a number >= 1, got 0"),
        ({"trials": 1, "jobs": 0}, "jobs: expected a number >= 1, got 0"),
        ({"trials": 1, "minutes": 0.0}, "minutes: expected a number > 0, got 0"),
    ],
)
def test_budgets_out_of_range(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        run(TINY, folder=tmp_path, **arguments)
