"""The hook that receives the record of each trial, and the tools that show a study."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import optuna
import pytest
from fake_evaluator import FakeEvaluator
from fake_search import TINY
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import mbsearch as mb
from mbsearch.search.driver import OnTrial
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import State, TrialRecord
from mbsearch.study_run import run

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))


def test_the_hook_gets_the_stored_record_of_each_trial_in_the_order_of_their_ends(
    tmp_path: Path,
) -> None:
    seen: list[TrialRecord] = []
    frame = mb.run(
        TINY, trials=4, folder=tmp_path, evaluator=FakeEvaluator(), jobs=1, on_trial=seen.append
    )
    first = {record.trial: record for record in reversed(seen)}
    assert sorted(first) == list(frame["trial"])
    stored = {record.trial: record for record in read_study(tmp_path).records()}
    assert all(record.evaluation == stored[n].evaluation for n, record in first.items())
    ends = [record.end_order for record in first.values()]
    assert sorted(ends) == ends[::-1]


def test_the_hook_gets_failed_trials(tmp_path: Path) -> None:
    seen: list[TrialRecord] = []
    run(
        TINY,
        trials=2,
        folder=tmp_path,
        evaluator=FakeEvaluator(fails=True),
        jobs=1,
        on_trial=seen.append,
    )
    assert {record.state for record in seen} == {State.FAILED}
    assert all("training diverged" in str(record.error) for record in seen)


def test_an_error_in_the_hook_is_one_line_and_does_not_end_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(record: TrialRecord) -> None:
        raise ValueError(f"no server\nfor {record.label}")

    with caplog.at_level(logging.WARNING, "mbsearch"):
        run(TINY, trials=2, folder=tmp_path, evaluator=FakeEvaluator(), jobs=1, on_trial=fail)
    records = read_study(tmp_path).records()
    assert {record.state for record in records} == {State.COMPLETE}
    lines = [record.getMessage() for record in caplog.records if "on_trial" in record.getMessage()]
    assert len(lines) >= len(records)
    assert f"on_trial: trial 0: ValueError: no server for {records[0].label}" in lines


def test_a_resumed_run_does_not_pass_ended_trials_again(tmp_path: Path) -> None:
    seen: list[int] = []
    for trials in (2, 4):
        run(
            TINY.with_settings({"baselines": ()}),
            trials=trials,
            folder=tmp_path,
            evaluator=FakeEvaluator(),
            jobs=1,
            on_trial=lambda record: seen.append(record.trial),
        )
    assert sorted(set(seen)) == seen == [0, 1, 2, 3]


def test_optunas_own_reader_opens_a_study_for_its_dashboard(tmp_path: Path) -> None:
    """`optuna-dashboard results/NAME/journal.log` opens the file with these two classes."""
    run(TINY, trials=3, folder=tmp_path, evaluator=FakeEvaluator(), jobs=1)
    before = (tmp_path / JOURNAL).read_bytes()
    storage = JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL)))
    study = optuna.load_study(study_name="tiny", storage=storage)
    assert study.metric_names == ["accuracy", "log10 mult_adds"]
    ours = [r.accuracy for r in read_study(tmp_path).records() if not r.is_baseline]
    assert [trial.values[0] for trial in study.trials] == ours
    assert set(study.trials[0].params) == {choice.name for choice in TINY.choices}
    assert (tmp_path / JOURNAL).read_bytes() == before


def records_of_run(folder: Path, hook: OnTrial) -> list[TrialRecord]:
    """Run a search that calls a hook, and return its records."""
    run(
        TINY,
        trials=2,
        folder=folder,
        evaluator=FakeEvaluator(epochs=2),
        jobs=1,
        on_trial=hook,
    )
    return read_study(folder).records()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")  # of SQLAlchemy about MLflow
def test_mlflow_has_a_run_for_each_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    from track_in_mlflow import log_trial

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    records = records_of_run(tmp_path / "study", log_trial)
    runs = {each.info.run_name: each for each in mlflow.search_runs(output_format="list")}
    for record in records:
        metrics = runs[record.label].data.metrics
        assert metrics["mult_adds"] == record.mult_adds
        assert metrics["validation_accuracy"] == pytest.approx(record.accuracy)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::Warning")
def test_tensorboard_has_the_learning_curve_of_each_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from track_in_tensorboard import RUNS, log_trial

    monkeypatch.chdir(tmp_path)
    records = records_of_run(tmp_path / "study", log_trial)
    for record in records:
        events = EventAccumulator(str(RUNS / record.slug))
        events.Reload()
        assert record.evaluation is not None
        assert [each.value for each in events.Scalars("validation accuracy")] == pytest.approx(
            [each.validation_accuracy for each in record.evaluation.curve]
        )
