"""The pilot: trainings of one reference that determine how long a screening is.

With few images an epoch has few steps, and after few steps every network is near chance. So the
length starts from a number of images, and is doubled until a reference is well above chance, as far
as the search then takes minutes, not hours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.scores import Score
from mbsearch.errors import EvaluationError
from mbsearch.execution.local import Executor, settled
from mbsearch.execution.protocol import Task
from mbsearch.space.architecture import Architecture

PILOT = "pilot"
"""User attribute of a study: its pilot."""

_IMAGES = 12_000  # least number of images times epochs of a screening: four epochs of 3,000
_ABOVE_CHANCE = 0.35  # share of the range from chance to 1
_DOUBLINGS = 3
_LONGEST = 20 * 60.0  # seconds of all screenings, beyond which they are not doubled


@dataclass(frozen=True, slots=True)
class PilotTraining:
    """One training of the pilot: number of epochs, validation accuracy and seconds."""

    epochs: int
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Pilot:
    """The trainings of the pilot; the last one has the chosen number of epochs.

    `too_long` is how many minutes the search's screenings would take at twice that length, if that
    is the reason why they are not longer.
    """

    network: str
    trainings: tuple[PilotTraining, ...]
    chance: float
    too_long: float | None = None

    @property
    def epochs(self) -> int:
        """Number of epochs of a screening."""
        return self.trainings[-1].epochs

    def sentence(self, score: Score = Score.ACCURACY) -> str:
        """Return a sentence about the pilot's result; `score` is what the accuracies are."""
        last = self.trainings[-1]
        seconds = sum(training.seconds for training in self.trainings)
        text = (
            f"pilot: {self.network} has {score.noun} {last.accuracy:.3f} after {last.epochs} "
            f"epochs (chance {self.chance:.3f}); {seconds:.0f} s"
        )
        if len(self.trainings) > 1:
            first = self.trainings[0]
            text += f"; {first.epochs} epochs were too near chance ({first.accuracy:.3f})"
        if not well_above_chance(last.accuracy, self.chance):
            text += "; still near chance: rankings of short trainings mean little here"
        if self.too_long is not None:
            text += (
                f"; {2 * last.epochs} epochs would take about {self.too_long:.0f} min "
                "(`proxy: {epochs: ...}` in the YAML file sets another number)"
            )
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the pilot as plain data for storage."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Pilot:
        """Return the pilot from data that `to_dict` returned."""
        trainings = tuple(PilotTraining(**each) for each in data["trainings"])
        return Pilot(data["network"], trainings, data["chance"], data.get("too_long"))


def well_above_chance(accuracy: float, chance: float) -> bool:
    """Return whether an accuracy is at least 35 % of the way from chance to 1."""
    return accuracy - chance >= _ABOVE_CHANCE * (1 - chance)


def first_length(proxy: Proxy, images: int) -> int:
    """Return the number of epochs that the pilot tries first.

    `images` is the number of training images of the data set.
    """
    seen = min(proxy.train_images or images, images)
    return max(proxy.epochs, math.ceil(_IMAGES / seen))


def run_pilot(
    executor: Executor,
    network: Architecture,
    proxy: Proxy,
    images: int,
    chance: float,
    seed: int,
    screenings: float = 0.0,
) -> Pilot:
    """Train a reference, doubling the epochs each time, until it is well above chance.

    The epochs are not doubled further if the search's screenings would then take over 20 minutes.

    Args:
        executor: executor of the study.
        network: a reference within the smallest budget.
        proxy: the recipe of a screening.
        images: number of training images.
        chance: score of always predicting the largest class.
        seed: seed of the trainings.
        screenings: number of screenings of the search for each worker.

    Raises:
        DataError, StorageError: as the evaluator.
        EvaluationError: the training failed.
    """
    epochs, trainings = first_length(proxy, images), []
    for _ in range(_DOUBLINGS + 1):
        (finished,) = settled(executor, [Task(network, seed, epochs=epochs)])
        if finished.outcome is None:
            raise EvaluationError(f"pilot, {network.name}: {finished.error}")
        evaluation = finished.outcome.evaluation
        trainings.append(PilotTraining(epochs, evaluation.accuracy, evaluation.seconds))
        if well_above_chance(evaluation.accuracy, chance):
            break
        doubled = 2 * evaluation.seconds * screenings
        if doubled > _LONGEST:
            return Pilot(network.name, tuple(trainings), chance, doubled / 60)
        epochs *= 2
    return Pilot(network.name, tuple(trainings), chance)
