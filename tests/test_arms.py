"""Answers of several studies, retrained with fresh seeds and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from fake_search import search
from noise_images import write_noise_images

from mbsearch.cli import main
from mbsearch.config.families import scaled_reference
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.specification import load_specification
from mbsearch.errors import DataError, EvaluationError
from mbsearch.execution.local import Finished
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.progress import Progress
from mbsearch.retraining.arms import FIRST_SEED, compare_arms, compare_trained, same_test_images
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.opening import read_study
from mbsearch.study.records import Evaluation, Predictions

IMAGES = 3000
TRUTH = {"answer": 0.90, "by chance": 0.86, "MobileNetV2 0.35/96": 0.87}


@dataclass
class Guessing:
    """An executor whose networks are right as often as `TRUTH` says."""

    slots: int = 1
    tasks: list[Task] = field(default_factory=list)
    fails: bool = False

    def submit(self, ticket: int, task: Task) -> None:
        assert ticket == len(self.tasks)
        self.tasks.append(task)

    def wait(self, timeout: float) -> list[Finished]:
        return [self._finished(*each) for each in enumerate(self.tasks)]

    def close(self) -> None:
        pass

    def _finished(self, ticket: int, task: Task) -> Finished:
        if self.fails:
            return Finished(ticket, error="training diverged")
        truth = TRUTH[task.architecture.name]
        right = np.random.default_rng(task.seed + round(1e4 * truth)).random(IMAGES) < truth
        labels = np.zeros(IMAGES, np.uint16)
        kept = Predictions(labels, np.where(right, labels, 1).astype(np.uint16))
        accuracy = float(right.mean())
        evaluation = Evaluation(
            accuracy,
            0.5,
            1.0,
            task.seed,
            Size.square(96),
            (),
            "retraining",
            {},
            "cpu",
            predictions=kept,
        )
        return Finished(ticket, Outcome(evaluation))


def network(alpha: float, name: str) -> Architecture:
    return scaled_reference("mobilenet_v2", alpha, 96, 2).replace(name=name)


ANSWER, CHANCE = network(0.25, "answer"), network(0.3, "by chance")
REFERENCE = network(0.35, "MobileNetV2 0.35/96")


def test_arms_are_compared_with_references_and_the_first_one_with_the_others() -> None:
    executor = Guessing()
    found = compare_trained([ANSWER, CHANCE], [REFERENCE], executor, 3)
    assert {task.seed for task in executor.tasks} == {FIRST_SEED, FIRST_SEED + 1, FIRST_SEED + 2}
    assert len(executor.tasks) == 9
    pairs = [(each.name, each.other) for each in found.margins]
    assert pairs == [
        ("answer", "by chance"),
        ("answer", REFERENCE.name),
        ("by chance", REFERENCE.name),
    ]
    for each in found.margins:
        expected = TRUTH[each.name] - TRUTH[each.other]
        assert each.margin.low <= expected <= each.margin.high
    assert found.margins[0].margin.significant
    assert found.margins[0].sentence().startswith("answer: +")
    assert found.images == IMAGES


def test_arms_with_the_same_network_train_it_once() -> None:
    executor = Guessing()
    same = ANSWER.replace(name="by chance")
    found = compare_trained([ANSWER, same], [], executor, 2)
    assert len(executor.tasks) == 2
    margin = found.margins[0].margin
    assert (margin.mean, margin.low, margin.high) == (0, 0, 0)
    assert found.accuracies["answer"] == found.accuracies["by chance"]


def test_a_failed_training_is_named_in_the_error() -> None:
    with pytest.raises(EvaluationError, match="answer, seed 1000: training diverged; the same"):
        compare_trained([ANSWER], [REFERENCE], Guessing(fails=True), 1)


def test_studies_with_other_test_images_are_not_compared(tmp_path: Path) -> None:
    split = write_noise_images(tmp_path / "a", {"train": 30, "test": 5})
    assert len(same_test_images(str(split), [0, 1, 0], 1).members["test"].rows) == 10
    whole = write_noise_images(tmp_path / "b", {"train": 30})
    with pytest.raises(DataError, match="splits of the seeds 0 and 1; search with one --seed"):
        same_test_images(str(whole / "train"), [0, 1], 1)
    assert same_test_images(str(whole / "train"), [4, 4], 1).seed == 4


@pytest.mark.slow
def test_arms_are_trained_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    images = write_noise_images(tmp_path / "images", {"train": 16, "test": 10})
    recipe = Retrain(epochs=2, batch_size=8, seeds=1)
    source = same_test_images(str(images), [0], 1)
    events: list[Progress] = []

    def compared() -> object:
        return compare_arms(
            [ANSWER],
            [REFERENCE],
            recipe,
            source=source,
            scale=0.25,
            folder=tmp_path,
            jobs=1,
            device="cpu",
            on_progress=events.append,
        )

    first = compared()
    assert [(e.completed, e.total) for e in events] == [(1, 2), (2, 2)]
    assert all("test accuracy" in (e.message or "") for e in events)
    assert len(list((tmp_path / "arms").glob("*/*/weights.pt"))) == 2
    assert compared() == first


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two searches of the same images."""
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    images = write_noise_images(tmp_path / "images", {"train": 16, "test": 10})
    recipe = Retrain(epochs=1, batch_size=8, resolution_scale=0.25)
    space = load_specification("tiny").with_classes(2).with_settings({"retrain": recipe})
    found = []
    for seed in (0, 1):
        folder = tmp_path / f"study{seed}"
        store, _ = search(folder, trials=3 + seed, space=space)
        stamp = {"data": str(images), "data_key": "ab", "seed": seed}
        store.search.set_user_attr("stamp", stamp)
        store.search.set_user_attr("space_yaml", space.to_yaml())
        found.append(folder)
    return found


def called(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["compare-arms", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.slow
def test_the_command_compares_the_answers_of_studies(
    studies: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command: tuple[str | Path, ...] = (
        *studies,
        "--budget",
        "100M",
        "--seeds",
        "1",
        "--jobs",
        "1",
        "--device",
        "cpu",
    )
    assert called(*command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Test accuracy on 20 images after retraining" in said
    assert f"of {studies[0]}: +" in said
    assert called(*command, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["margins"][0]["other"].endswith(f"of {studies[1]}")
    assert all(len(accuracies) == 1 for accuracies in found["accuracies"].values())


def test_studies_of_other_images_are_refused(
    studies: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    store = read_study(studies[1])
    store.search.set_user_attr("stamp", {"data": "others", "data_key": "cd", "seed": 0})
    assert called(*studies, "--budget", "100M") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{studies[1]}: expected a study of" in said
    assert called(*studies, "--budget", "much") == 2
    assert "--budget: expected" in capsys.readouterr().err
