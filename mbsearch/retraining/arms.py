"""Retrain the answers of several studies with fresh seeds, and compare them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbsearch.analysis.intervals import Interval, points
from mbsearch.analysis.repeated_trainings import (
    Trainings,
    pooled_seed_deviation_of,
    trainings_of_finals,
)
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.scores import Score
from mbsearch.data.sources import ImageSource, load_source
from mbsearch.errors import DataError, EvaluationError
from mbsearch.execution.local import Executor, settled
from mbsearch.execution.protocol import Task
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.retraining.workers import training_workers
from mbsearch.space.architecture import Architecture
from mbsearch.study.identity import fingerprint_of
from mbsearch.study.lock import driver_lock
from mbsearch.study.records import Evaluation
from mbsearch.training.devices import training_devices
from mbsearch.training.long_training import FinalTraining

_LOGGER = logging.getLogger(__name__)

FOLDER = "arms"
FIRST_SEED = 1000
"""Seeds of `mbsearch retrain` and of finals are smaller."""


@dataclass(frozen=True, slots=True)
class ArmMargin:
    """Difference in test accuracy between two networks, `name` minus `other`."""

    name: str
    other: str
    margin: Interval

    def sentence(self) -> str:
        """Return a sentence about the difference, in percentage points."""
        difference = f"{points(self.margin.mean)} points over {self.other}"
        return f"{self.name}: {difference} ({self.margin.in_points()})"

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as plain data."""
        margin = self.margin
        bounds = {"low": margin.low, "high": margin.high, "images": margin.images}
        return {
            "name": self.name,
            "other": self.other,
            "margin": {"difference": margin.mean, **bounds},
        }


@dataclass(frozen=True, slots=True)
class ArmsComparison:
    """Test accuracies of each network by seed, and differences between networks.

    `score` is what the accuracies are.
    """

    accuracies: dict[str, tuple[float, ...]]
    margins: tuple[ArmMargin, ...]
    images: int
    score: Score = Score.ACCURACY

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        margins = [each.to_dict() for each in self.margins]
        return {**asdict(self), "margins": margins}


def same_test_images(
    data: str,
    split_seeds: Sequence[int],
    min_images: int,
    on_progress: OnProgress = ignore_progress,
) -> ImageSource:
    """Check that several studies have the same test images, and return the first one's images.

    Progress events of the check go to `on_progress`.

    Raises:
        DataError: the images cannot be read, or the studies differ in their test images.
    """
    first, *others = (
        load_source(data, seed=seed, min_images=min_images, on_progress=on_progress)
        for seed in dict.fromkeys(split_seeds)
    )
    rows = first.members["test"].rows
    for other in others:
        if not np.array_equal(other.members["test"].rows, rows):
            raise DataError(
                f"{data}: expected studies with the same test images, got splits of the seeds "
                f"{first.seed} and {other.seed}; search with one --seed, or put test images into a "
                "folder 'test'"
            )
    return first


def compare_arms(
    arms: Sequence[Architecture],
    references: Sequence[Architecture],
    recipe: Retrain,
    *,
    source: ImageSource,
    scale: float,
    folder: Path,
    jobs: int | None = None,
    device: str | None = None,
    score: Score = Score.ACCURACY,
    on_progress: OnProgress = ignore_progress,
) -> ArmsComparison:
    """Retrain networks with fresh seeds, and compare them on the same test images.

    Each arm is compared with every reference, and the first one with every other arm. Interrupted,
    the same call resumes from the last epoch of each training.

    Args:
        arms: answers of studies, with unique names.
        references: other networks, with unique names.
        recipe: recipe of the trainings, with the number of seeds.
        source: images of the studies.
        scale: pixels trained on, as a share of a network's own resolution.
        folder: folder for the trainings.
        jobs: trainings at a time; None for one a core, or four on a GPU.
        device: ``cpu``, ``cuda``, ``mps``; None selects the best one available.
        score: of the studies.
        on_progress: receives an event for every completed training.

    Raises:
        DataError: the images cannot be read.
        EvaluationError: a training failed.
        StorageError: another process trains in this folder, or it cannot be written.
    """
    for line in source.damage:
        _LOGGER.warning(line)
    facts = recipe.facts() | {
        "resolution_scale": scale,
        "data_key": source.content_key,
    }
    home = folder / FOLDER / fingerprint_of(facts)
    with driver_lock(home):
        training = FinalTraining(
            recipe,
            scale,
            source.place,
            home,
            split_seed=source.seed,
            devices=training_devices(device),
            min_images=source.min_images,
            score=score,
        )
        with training_workers(training, jobs) as executor:
            return compare_trained(arms, references, executor, recipe.seeds, on_progress, score)


def compare_trained(
    arms: Sequence[Architecture],
    references: Sequence[Architecture],
    executor: Executor,
    seeds: int,
    on_progress: OnProgress = ignore_progress,
    score: Score = Score.ACCURACY,
) -> ArmsComparison:
    """Train networks with `executor`, each one once per seed, and compare them.

    The executor runs a `FinalTraining`.

    Raises:
        EvaluationError: a training failed.
    """
    networks = [*arms, *references]
    distinct: dict[str, Architecture] = {}
    for network in networks:  # a reference that is also an arm is trained as the arm
        distinct.setdefault(network.fingerprint, network)
    tasks = [
        Task(network, FIRST_SEED + seed) for seed in range(seeds) for network in distinct.values()
    ]
    evaluations: dict[str, list[Evaluation]] = {fingerprint: [] for fingerprint in distinct}
    for completed, finished in enumerate(settled(executor, tasks), start=1):
        task = tasks[finished.ticket]
        if finished.outcome is None:
            raise EvaluationError(
                f"{task.architecture.name}, seed {task.seed}: {finished.error}; the same command "
                "tries it again"
            )
        evaluation = finished.outcome.evaluation
        evaluations[task.architecture.fingerprint].append(evaluation)
        value = f"test {score.noun} {evaluation.accuracy:.4f}"
        line = f"{task.architecture.name}, seed {task.seed}: {value}"
        on_progress(Progress("retraining", completed, len(tasks), message=line))
    trained = {fingerprint: _trainings(found, score) for fingerprint, found in evaluations.items()}
    deviation = pooled_seed_deviation_of(list(trained.values()))

    def margin(a: Architecture, b: Architecture) -> ArmMargin:
        first, second = trained[a.fingerprint], trained[b.fingerprint]
        if a.fingerprint == b.fingerprint:  # the same trainings
            return ArmMargin(a.name, b.name, Interval(0.0, 0.0, 0.0, first.images))
        return ArmMargin(a.name, b.name, first.margin(second, deviation))

    pairs = [(arms[0], other) for other in arms[1:]]
    pairs += [(arm, reference) for arm in arms for reference in references]
    return ArmsComparison(
        {n.name: tuple(trained[n.fingerprint].accuracies) for n in networks},
        tuple(margin(a, b) for a, b in pairs),
        next(iter(trained.values())).images,
        score,
    )


def _trainings(evaluations: Sequence[Evaluation], score: Score) -> Trainings:
    """Return the trainings of one network, sorted by seed."""
    return trainings_of_finals(sorted(evaluations, key=lambda each: each.seed), score)
