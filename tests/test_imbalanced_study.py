"""A study of 95:5 images maximises the score that it was asked for, and names it everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fake_search import TINY, search

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import findings_of
from mbsearch.cli import app
from mbsearch.config.budgets import Budget
from mbsearch.config.scores import Score
from mbsearch.config.settings import Settings
from mbsearch.config.specification import read_specification
from mbsearch.dashboard.pages import front, network
from mbsearch.dashboard.studies import Library, ResultsFolder
from mbsearch.errors import SpecError
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.class_scores import effective_images, score_of
from mbsearch.study.identity import difference, scoring_identity, with_defaults
from mbsearch.study.images_record import IMAGES, ImagesRecord
from mbsearch.study.records import Epoch, Evaluation, Predictions

SIZES = np.array([950, 50])
SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, stride: 2, expansion: 3}
head: {channels: 32}
"""


def is_careful(task: Task) -> bool:
    """Whether a network finds the small class."""
    return int(task.architecture.fingerprint, 16) % 2 == 0


@dataclass(frozen=True, slots=True)
class ImbalancedEvaluator:
    """Careful networks find the small class, others are right more often in the large one."""

    score: Score

    def evaluate(self, task: Task) -> Outcome:
        recalls = np.array([0.94, 0.9] if is_careful(task) else [0.999, 0.4])
        labels = np.repeat([0, 1], SIZES).astype(np.uint16)
        right = np.random.default_rng(task.seed).random(len(labels)) < recalls[labels]
        found = Predictions(labels, np.where(right, labels, 1 - labels).astype(np.uint16))
        accuracy = score_of(self.score, found)
        effective = effective_images(self.score, found)
        return Outcome(
            Evaluation(
                accuracy=accuracy,
                validation_loss=1 - accuracy,
                seconds=0.0,
                seed=task.seed,
                pixels=task.architecture.resolution,
                curve=(Epoch(1.0, 1.0, accuracy, 0.0, effective),),
                evaluator="training",
                recipe={},
                device="none",
                images=len(labels),
                predictions=found,
            )
        )


def imbalanced_study(folder: Path, score: Score) -> Answer:
    """Search with a score, store what a run stores, and return the answer."""
    settings = {"objectives": (str(score), "mult_adds")}
    store, _ = search(
        folder / score,
        trials=12,
        evaluator=ImbalancedEvaluator(score),
        space=TINY.with_settings(settings),
    )
    shares = dict.fromkeys(("train", "validation", "test"), 0.95)
    images = ImagesRecord("", ("common", "rare"), (0.5,), (0.2,), 1, {}, shares, deep=False)
    store.search.set_user_attr(IMAGES, images.to_dict())
    stamp = {"data": "photos", "data_key": "45cd70", "seed": 0}
    store.search.set_user_attr("stamp", stamp | {"objectives": [str(score), "mult_adds"]})
    store.search.set_user_attr("space_yaml", TINY.with_settings(settings).to_yaml())
    findings = findings_of(store.records(), store.settings())
    return answer(findings, Budget.of({"mult_adds": 10**9}))


def test_the_answer_follows_the_score_and_names_the_largest_class(tmp_path: Path) -> None:
    answers = {score: imbalanced_study(tmp_path, score) for score in Score}
    careful = {
        score: is_careful(Task(found.record.architecture, 0)) for score, found in answers.items()
    }
    assert careful == {Score.ACCURACY: False, Score.BALANCED: True, Score.F1: False}
    balanced = answers[Score.BALANCED]
    assert "validation balanced accuracy 0.9" in balanced.sentence()
    assert balanced.to_dict()["score"] == "balanced_accuracy"
    for found in answers.values():
        assert "largest class 0.950" in found.sentence()
    assert "validation accuracy" in answers[Score.ACCURACY].sentence()
    # 50 images of a class decide: the interval is wider than that of 1,000 images.
    width = balanced.best.accuracy.high - balanced.best.accuracy.low
    assert width > 0.06


def test_every_place_names_the_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imbalanced_study(tmp_path, Score.BALANCED)
    folder = str(tmp_path / Score.BALANCED)
    for command in (
        ["status"],
        ["report", "-o", str(tmp_path / "report.html")],
        ["export", "-o", str(tmp_path / "out"), "--formats", "yaml"],
    ):
        app([command[0], folder, *command[1:]], standalone_mode=False)
    library = Library(ResultsFolder(tmp_path))
    while (snapshot := library.snapshot(None)).loading:
        pass
    texts = {
        "status": capsys.readouterr().out,
        "report": (tmp_path / "report.html").read_text(),
        "model card": (tmp_path / "out" / "README.md").read_text(),
        "front": str(front.layout(snapshot, {}, library)),
        "network": str(network.layout(snapshot, {}, library)),
    }
    for name, text in texts.items():
        plain = " ".join(text.split())
        assert "alanced accuracy" in plain, name
        assert "alidation accuracy" not in plain, name
        if name != "front":
            assert "largest class 0.950" in plain, name


def test_the_score_is_part_of_a_study_and_earlier_studies_have_accuracy() -> None:
    accuracy = read_specification(parse_document(SPACE, "small.yaml"))
    text = SPACE + "objectives: [balanced_accuracy, params]\n"
    balanced = read_specification(parse_document(text, "small.yaml"))
    assert balanced.settings.score is Score.BALANCED
    assert balanced.settings.metric == "params"
    assert scoring_identity(accuracy, "key").keys() == {"data_key", "space", "proxy"}
    assert scoring_identity(balanced, "key")["score"] == "balanced_accuracy"
    earlier = with_defaults({"proxy": {}, "limits": {}})
    assert earlier["objectives"] == list(Settings().objectives)
    now = {**earlier, "objectives": ["f1_macro", "mult_adds"]}
    assert "objectives was ['accuracy', 'mult_adds'] and is ['f1_macro'" in str(
        difference(earlier, now)
    )
    with pytest.raises(SpecError, match="accuracy, balanced_accuracy or f1_macro, and one of"):
        read_specification(parse_document(SPACE + "objectives: [precision, params]\n", "a.yaml"))
