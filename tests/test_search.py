from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fake_evaluator import FakeEvaluator
from fake_search import SMALL, TINY, outcomes, search
from optuna.trial import TrialState

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.front import front_of, knee_of
from mbsearch.analysis.tables import front_rows
from mbsearch.config.budgets import Limits
from mbsearch.config.specification import baseline_architectures
from mbsearch.cost import measure
from mbsearch.errors import DataError, StorageError
from mbsearch.execution.local import LocalProcesses
from mbsearch.progress import Progress
from mbsearch.report.result_files import write_results
from mbsearch.search.driver import Driver
from mbsearch.search.factory import SAMPLERS, make_sampler
from mbsearch.search.pending import MAX_ATTEMPTS
from mbsearch.study.journal import open_journal
from mbsearch.study.lock import driver_lock
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import State, find_trial
from mbsearch.study.store import RECORD, create_study
from mbsearch.study.trial_spec import TrialKind, TrialSpec


def test_baselines_come_first_then_the_asked_number_of_trials(tmp_path: Path) -> None:
    store, _ = search(tmp_path, trials=6)
    records = store.records()
    expected = [name for name, _ in baseline_architectures(TINY)]
    assert [r.origin for r in records] == expected + ["search"] * 6
    assert all(r.state is State.COMPLETE for r in records)
    assert len({r.trial for r in records}) == len(records)


def test_noise_is_the_spread_over_the_seeds_of_one_baseline(tmp_path: Path) -> None:
    store, _ = search(tmp_path, trials=1)
    ((curves),) = store.repeats().values()
    assert len(curves) == TINY.settings.proxy.noise_seeds
    accuracies = [curve[-1].validation_accuracy for curve in curves]
    expected = abs(accuracies[0] - accuracies[1]) / 2**0.5
    assert all(r.accuracy_noise == pytest.approx(expected) for r in store.records())


def test_the_records_of_an_open_study_are_those_of_one_opened_later(tmp_path: Path) -> None:
    search(tmp_path, trials=2)
    watching = read_study(tmp_path)
    before = watching.records()
    again = watching.records()
    assert all(a is b for a, b in zip(before, again, strict=True)), "nothing changed"
    store, _ = search(tmp_path, trials=8)
    driven = store.repeats()
    (curves,) = driven.values()
    trial = next(t for t, s in store.trials(store.baselines) if s.kind is TrialKind.REPEAT)
    other = store.baselines.ask()
    changed = trial.user_attrs["evaluation"]
    changed["curve"][-1]["validation_accuracy"] += 0.1  # more noise, at every network
    store.set_attr(store.baselines, other.number, RECORD, trial.user_attrs[RECORD])
    store.set_attr(store.baselines, other.number, "evaluation", changed)
    store.tell(store.baselines, other.number, [0.5, 6.0])
    assert len(next(iter(watching.repeats().values()))) == len(curves) + 1
    assert watching.records() == read_study(tmp_path).records()
    assert watching.records()[0].accuracy_noise != before[0].accuracy_noise


def test_no_network_is_trained_twice_until_the_space_is_exhausted(tmp_path: Path) -> None:
    store, driver = search(tmp_path, trials=500, space=SMALL)
    searched = [r for r in store.records() if not r.is_baseline]
    networks = {SMALL.decode(p).fingerprint for p in SMALL.enumerate_params()}
    assert driver.exhausted
    assert len(searched) == len(networks)
    assert {r.fingerprint for r in searched} == networks


def test_limits_are_hard(tmp_path: Path) -> None:
    limits = Limits(mult_adds=4_000_000)
    space = TINY.with_settings({"limits": limits})
    store, _ = search(tmp_path, trials=15, space=space, sampler="cost-aware")
    searched = [r for r in store.records() if not r.is_baseline]
    assert len(searched) == 15
    assert max(r.mult_adds for r in searched) <= 4_000_000


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])
def test_one_seed_and_one_worker_give_one_study(tmp_path: Path, sampler: str) -> None:
    first, second = (
        search(tmp_path / name, trials=14, sampler=sampler)[0].records() for name in "ab"
    )
    assert outcomes(first) == outcomes(second)


def test_a_killed_worker_costs_nothing_but_its_time(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.touch()
    store, _ = search(tmp_path, trials=4, evaluator=FakeEvaluator(dies_on=trap), jobs=2)
    records = store.records()
    assert not trap.exists()
    assert all(r.state is State.COMPLETE for r in records)
    assert len(records) == len(baseline_architectures(TINY)) + 4


def test_a_trial_that_kills_every_worker_fails_with_the_reason(tmp_path: Path) -> None:
    bare = TINY.with_settings({"baselines": ()})
    store, _ = search(tmp_path, trials=1, space=bare, evaluator=FakeEvaluator(always_dies=True))
    (record,) = store.records()
    assert record.state is State.FAILED
    assert "its worker process died (SIGKILL" in (record.error or "")


def test_a_failed_training_fails_its_trial_only_and_keeps_its_message(tmp_path: Path) -> None:
    store, _ = search(tmp_path, trials=3, evaluator=FakeEvaluator(fails=True))
    records = store.records()
    assert len(records) == len(baseline_architectures(TINY)) + 3
    assert {r.error for r in records} == {"training diverged in epoch 1: the loss is nan"}


class _Stop(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("stop_after", [0, 6, 9])
def test_an_interrupted_search_resumes_with_the_same_trials(
    tmp_path: Path, stop_after: int
) -> None:
    ended = 0

    def stop(progress: Progress) -> None:
        nonlocal ended
        ended += progress.message is not None
        if ended >= stop_after and progress.running:
            raise _Stop

    with pytest.raises(_Stop):
        search(tmp_path, trials=8, on_progress=stop)
    before = [r for r in read_study(tmp_path).records() if r.state is State.COMPLETE]
    store, _ = search(tmp_path, trials=8)
    after = store.records()
    assert outcomes(before) == [o for o in outcomes(after) if o[0] in {r.trial for r in before}]
    assert all(r.state is State.COMPLETE for r in after)
    assert sum(not r.is_baseline for r in after) == 8
    assert len({r.fingerprint for r in after}) == len(after)


def test_clean_stops_are_not_charged_as_attempts(tmp_path: Path) -> None:
    """Only what kills a run counts against the trials that were in flight."""

    def stop(progress: Progress) -> None:
        if progress.running:
            raise _Stop

    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(_Stop):
            search(tmp_path, trials=2, on_progress=stop)
    store, _ = search(tmp_path, trials=2)
    assert all(r.state is State.COMPLETE for r in store.records())


def test_what_waits_for_a_worker_has_not_been_tried_again(tmp_path: Path) -> None:
    """Several trials were in flight when the run was killed, and the next ones have one worker."""

    def stop(progress: Progress) -> None:
        if progress.running == jobs:
            raise _Stop

    for jobs in (3, *[1] * (MAX_ATTEMPTS + 1)):
        with pytest.raises(_Stop):
            search(tmp_path, trials=2, jobs=jobs, on_progress=stop)
    store, _ = search(tmp_path, trials=2)
    assert all(r.state is State.COMPLETE for r in store.records())


def test_trouble_with_the_images_ends_the_run_and_fails_no_network(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    evaluator = FakeEvaluator(trouble=trouble)
    search(tmp_path, trials=2, evaluator=evaluator)
    trouble.touch()
    for _ in range(MAX_ATTEMPTS + 1):
        with pytest.raises(DataError, match=r"a.png: expected an image"):
            search(tmp_path, trials=5, evaluator=evaluator, jobs=2)
    trouble.unlink()
    store, _ = search(tmp_path, trials=5, evaluator=evaluator)
    records = store.records()
    assert all(r.state is State.COMPLETE for r in records)
    assert sum(not r.is_baseline for r in records) == 5


def test_a_driver_that_has_lost_the_study_writes_no_more(tmp_path: Path) -> None:
    """Another one has taken it over, and trains what was in flight here."""
    store = create_study(open_journal(tmp_path / JOURNAL, create=True), TINY.name)
    store.search.sampler = make_sampler("random", TINY, seed=0)

    def lost() -> None:
        raise StorageError("the lock is gone")

    with LocalProcesses(FakeEvaluator(), 1) as executor:
        driver = Driver(store, TINY, executor, 3, 0, still_held=lost)
        with pytest.raises(StorageError, match="the lock is gone"):
            driver.run()
    (trial,) = store.baselines.get_trials()
    assert trial.state is TrialState.RUNNING
    assert "attempts" not in trial.user_attrs
    assert "evaluation" not in trial.user_attrs


def test_a_study_that_lost_its_first_line_is_one_message(tmp_path: Path) -> None:
    search(tmp_path, trials=2)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join(lines[1:]))
    with pytest.raises(StorageError, match="damaged"):
        read_study(tmp_path)


def test_the_network_of_a_running_baseline_is_not_suggested_after_a_kill(tmp_path: Path) -> None:
    space = SMALL.with_settings({"baselines": ()})
    store, _ = search(tmp_path, trials=0, space=space)
    network = space.sample(0)
    spec = TrialSpec(
        TrialKind.BASELINE,
        0,
        "mobilenet_v2",
        network,
        network.fingerprint,
        measure(network),
        params={},
        seed=0,
    )
    store.set_attr(store.baselines, store.baselines.ask().number, RECORD, spec.to_dict())
    store, driver = search(tmp_path, trials=500, space=space)
    assert driver.exhausted
    assert [r.fingerprint for r in store.records()].count(network.fingerprint) == 1


def test_an_incomplete_suggestion_bans_no_network(tmp_path: Path) -> None:
    """A kill in the midst of it leaves a few parameters, which half of the space may share."""
    cheapest = min(map(TINY.decode, TINY.enumerate_params()), key=lambda n: measure(n)["mult_adds"])
    store = create_study(open_journal(tmp_path / JOURNAL, create=True), TINY.name)
    (choice,) = (c for c in TINY.choices if c.name == "resolution")
    store.search.enqueue_trial({"resolution": cheapest.resolution.plain})
    store.search.ask().suggest_categorical("resolution", choice.values)
    store, _ = search(tmp_path, trials=2, sampler="cost-aware")
    assert cheapest.fingerprint in {r.fingerprint for r in store.records()}


def test_a_torn_last_line_is_trimmed_by_the_next_writer(tmp_path: Path) -> None:
    store, _ = search(tmp_path, trials=2)
    before = outcomes(store.records())
    lines = (tmp_path / JOURNAL).read_bytes().count(b"\n")
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"mbsearch":%d,"op_code":4,"worker' % lines)
    assert outcomes(read_study(tmp_path).records()) == before
    store, _ = search(tmp_path, trials=4)
    assert outcomes(store.records())[: len(before)] == before
    assert sum(not r.is_baseline for r in read_study(tmp_path).records()) == 4


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    search(tmp_path, trials=1)
    journal = tmp_path / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = b"\x00\x00\x00\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(StorageError, match=r"journal\.log:4: the study is damaged"):
        read_study(tmp_path)


def test_a_damaged_last_line_ends_a_run_in_one_message(tmp_path: Path) -> None:
    """Optuna passes over it until another line follows."""
    search(tmp_path, trials=1)
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b"garbage\n")
    with pytest.raises(StorageError, match="damaged"):
        search(tmp_path, trials=2)


def test_a_second_driver_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        driver_lock(tmp_path),
        pytest.raises(StorageError, match=rf"being run by process {os.getpid()}\b"),
        driver_lock(tmp_path),
    ):
        pass


def test_results_are_written_and_read_back(tmp_path: Path) -> None:
    import pandas as pd

    from mbsearch.config.specification import load

    records = search(tmp_path, trials=8)[0].records()
    write_results(tmp_path, Findings(records), "tiny")
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert list(trials["trial"]) == [r.trial for r in records]
    front = pd.read_csv(tmp_path / "front.csv")
    assert list(front["trial"]) == [r.trial for r in front_of(records)]
    findings = Findings(records)
    assert findings.main_budget is not None
    best = load(tmp_path / "best.yaml")
    assert best == answer(findings, findings.main_budget).record.architecture
    html = (tmp_path / "front.html").read_text()
    assert "MobileNet V2" in html
    assert 'src="http' not in html  # self-contained


def test_front_rows_are_plain_json(tmp_path: Path) -> None:
    rows = front_rows(search(tmp_path, trials=4)[0].records())
    assert json.loads(json.dumps(rows)) == rows
    assert set(rows[0]) == {
        "trial",
        "origin",
        "accuracy",
        "accuracy_noise",
        "expected",
        "promoted",
        "mult_adds",
        "params",
        "alpha",
        "resolution",
    }


def test_a_trial_that_is_not_there_is_named(tmp_path: Path) -> None:
    records = search(tmp_path, trials=1)[0].records()
    with pytest.raises(StorageError, match=r"trial 999: expected a trial of the study"):
        find_trial(records, 999)


def test_with_nothing_finished_there_is_no_front() -> None:
    with pytest.raises(StorageError, match="expected at least one complete trial, got none yet"):
        knee_of([])
