"""Grid search: every network of a space, each with the same number of seeds."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

import pytest
from fake_evaluator import FakeEvaluator
from optuna.trial import TrialState

import mbsearch as mb
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.errors import SpecError, StorageError
from mbsearch.search.grid import MOST_NETWORKS
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import State
from mbsearch.study.store import RECORD, StudyStore, create_study
from mbsearch.study_run import SEEDS, run

# 9 encodings: the expansion of a separable stage does not count. Two are over the limit, and one
# more at alpha 1.
GRID = """name: grid
resolution: 32
alpha: {choices: [0.5, 0.75, 1.0]}
stem: {channels: 8}
stages:
  - block: {choices: [separable, inverted_residual]}
    channels: 16
    stride: 2
    expansion: {choices: [3, 6]}
head: {channels: 32}
limits: {params: 2k}
num_classes: 10
proxy: {epochs: 1, train_images: 100, validation_images: 100}
weights: none
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpecification:
    (tmp_path / "grid.yaml").write_text(GRID)
    return load_specification(tmp_path / "grid.yaml")


def grid(space: SearchSpecification, folder: Path, seeds: int, **options: float) -> StudyStore:
    evaluator = FakeEvaluator(**options)  # type: ignore[arg-type]
    run(
        space,
        trials=None,
        folder=folder,
        evaluator=evaluator,
        jobs=1,
        sampler="grid",
        seeds=seeds,
    )
    return read_study(folder)


def feasible(space: SearchSpecification) -> list[str]:
    networks = [space.decode(params) for params in space.enumerate_params()]
    within = [n for n in networks if space.settings.excess(mb.measure(n)) is None]
    assert 0 < len(within) < len(networks), "the limit excludes some networks"
    return [each.fingerprint for each in within]


def test_each_network_within_the_limits_is_trained_once_with_each_seed(
    space: SearchSpecification, tmp_path: Path
) -> None:
    store = grid(space, tmp_path / "study", seeds=3)
    assert [r.fingerprint for r in store.records()] == feasible(space)
    assert {r.state for r in store.records()} == {State.COMPLETE}
    specs = [spec for s in (store.search, store.baselines) for _, spec in store.trials(s)]
    assert len({spec.seed for spec in specs}) == len(specs) == 3 * len(feasible(space))
    assert {len(curves) for curves in store.repeats().values()} == {3}


def test_the_table_of_seeds_has_means_with_intervals(
    space: SearchSpecification, tmp_path: Path
) -> None:
    store = grid(space, tmp_path / "study", seeds=3)
    with (tmp_path / "study" / SEEDS).open(encoding="utf-8") as file:
        rows = {row["fingerprint"]: row for row in csv.DictReader(file)}
    assert list(rows) == feasible(space)
    for fingerprint, curves in store.repeats().items():
        mean = fmean(curve[-1].validation_accuracy for curve in curves)
        row = rows[fingerprint]
        assert float(row["accuracy"]) == pytest.approx(mean)
        assert float(row["low"]) < mean < float(row["high"])
        assert len(row["accuracies"].split()) == int(row["seeds"]) == 3


def test_more_seeds_extend_a_grid_and_the_same_command_adds_nothing(
    space: SearchSpecification, tmp_path: Path
) -> None:
    once = grid(space, tmp_path / "study", seeds=1)
    first = [(r.trial, r.accuracy) for r in once.records()]
    assert not once.repeats()
    for _ in range(2):
        extended = grid(space, tmp_path / "study", seeds=2)
        assert [(r.trial, r.accuracy) for r in extended.records()] == first
        assert {len(curves) for curves in extended.repeats().values()} == {2}
    assert len(extended.baselines.trials) == len(first)


def test_no_network_of_a_grid_is_pruned(space: SearchSpecification, tmp_path: Path) -> None:
    store = grid(space, tmp_path / "study", seeds=1, epochs=4, noise=0.3)
    assert {r.state for r in store.records()} == {State.COMPLETE}
    assert {len(r.evaluation.curve) for r in store.records() if r.evaluation} == {4}


def test_a_study_with_pruned_trials_does_not_become_a_grid(
    space: SearchSpecification, tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    run(space, trials=1, folder=folder, evaluator=FakeEvaluator(), jobs=1, sampler="random")
    store = create_study(open_journal(folder / JOURNAL, create=True), space.name)
    ((_, spec),) = store.trials(store.search)
    pruned = store.search.ask().number
    store.set_attr(store.search, pruned, RECORD, spec.to_dict())
    store.tell(store.search, pruned, state=TrialState.PRUNED)
    message = "without pruned trials for --sampler grid, got 1"
    with pytest.raises(StorageError, match=message):
        grid(space, folder, seeds=1)


def test_too_large_a_space_is_refused_with_its_size_before_a_study_is_made(
    space: SearchSpecification, tmp_path: Path
) -> None:
    many = tmp_path / "many.yaml"
    wide = "alpha: {range: [0.1, 1.0], step: 0.002}"
    many.write_text(GRID.replace("alpha: {choices: [0.5, 0.75, 1.0]}", wide))
    large = load_specification(many)
    assert large.size > MOST_NETWORKS
    with pytest.raises(SpecError, match=rf"at most 1,000 networks, grid has {large.size:,}"):
        grid(large, tmp_path / "study", seeds=1)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "grid", "trials": 5}, "trials: expected none with the sampler grid"),
        ({"sampler": "random", "trials": 5, "seeds": 2}, "seeds: expected 1 without"),
        ({"sampler": "grid", "trials": None, "seeds": 0}, "seeds: expected a number >= 1"),
    ],
)
def test_options_that_contradict_a_grid_are_refused(
    space: SearchSpecification, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        run(space, folder=tmp_path / "study", evaluator=FakeEvaluator(), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "study").exists()


KILLED = """
from pathlib import Path

from fake_evaluator import FakeEvaluator
from optuna.trial import TrialState

from mbsearch.config.specification import load_specification
from mbsearch.study_run import run

if __name__ == "__main__":
    run(
        load_specification("grid.yaml"),
        trials=None,
        folder=Path("killed"),
        evaluator=FakeEvaluator(seconds=0.1),
        jobs=1,
        sampler="grid",
        seeds=3,
    )
"""


def test_a_suggestion_cut_off_by_a_kill_is_made_again(
    space: SearchSpecification, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    create_study(open_journal(folder / JOURNAL, create=True), space.name).search.ask()
    whole = grid(space, tmp_path / "whole", seeds=2)
    assert _accuracies(grid(space, folder, seeds=2)) == _accuracies(whole)


@pytest.mark.slow
def test_a_grid_resumes_after_kill_9(space: SearchSpecification, tmp_path: Path) -> None:
    """It is killed among its networks, then among its repeats."""
    (tmp_path / "killed.py").write_text(KILLED)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "killed.py"]
    for least in (2, len(feasible(space)) + 2):
        with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
            _wait_until_completed(tmp_path / "killed", least, process)
            process.kill()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    whole = grid(space, tmp_path / "whole", seeds=3)
    assert {len(curves) for curves in whole.repeats().values()} == {3}
    assert _accuracies(read_study(tmp_path / "killed")) == _accuracies(whole)


def _accuracies(store: StudyStore) -> dict[str, list[float]]:
    return {
        fingerprint: [curve[-1].validation_accuracy for curve in curves]
        for fingerprint, curves in store.repeats().items()
    }


def _wait_until_completed(folder: Path, least: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended too early"
        try:
            store = read_study(folder)
        except mb.StorageError:  # not made yet
            time.sleep(0.1)
            continue
        ended = store.ended_candidates()
        ended += sum(trial.state.is_finished() for trial in store.baselines.get_trials())
        if ended >= least:
            return
        time.sleep(0.02)
    pytest.fail("the run did not get there in time")
