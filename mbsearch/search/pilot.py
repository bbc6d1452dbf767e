"""The pilot: trainings of one reference that set how long a screening is.

A screening of few images is few steps, and after few steps every network is near chance. So the
length follows from the number of steps, and is doubled until a reference is well above chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mbsearch.config.proxy_settings import Proxy
from mbsearch.errors import EvaluationError
from mbsearch.execution.local import Executor, settled
from mbsearch.execution.protocol import Task
from mbsearch.space.architecture import Architecture

PILOT = "pilot"
"""User attribute of a study: its pilot."""

_IMAGES = 12_000  # that a screening sees at least, repetitions counted: four epochs of 3,000
_ABOVE_CHANCE = 0.35  # of the way from chance to 1
_DOUBLINGS = 3


@dataclass(frozen=True, slots=True)
class PilotTraining:
    """One training of the pilot: its length, and the validation accuracy it reached."""

    epochs: int
    accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Pilot:
    """The trainings of a pilot, of which the last has the length that was chosen."""

    network: str
    trainings: tuple[PilotTraining, ...]
    chance: float

    @property
    def epochs(self) -> int:
        """Length of a screening."""
        return self.trainings[-1].epochs

    def sentence(self) -> str:
        """What the pilot found, in words."""
        last = self.trainings[-1]
        seconds = sum(training.seconds for training in self.trainings)
        text = (
            f"pilot: {self.network} has accuracy {last.accuracy:.3f} after {last.epochs} epochs "
            f"(chance {self.chance:.3f}); {seconds:.0f} s"
        )
        if len(self.trainings) > 1:
            first = self.trainings[0]
            text += f"; {first.epochs} epochs were too near chance ({first.accuracy:.3f})"
        if not well_above_chance(last.accuracy, self.chance):
            text += "; still near chance: rankings of short trainings mean little here"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for storage."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Pilot:
        """Inverse of `to_dict`."""
        trainings = tuple(PilotTraining(**each) for each in data["trainings"])
        return Pilot(data["network"], trainings, data["chance"])


def well_above_chance(accuracy: float, chance: float) -> bool:
    """Whether an accuracy tells networks apart: it has come 35 % of the way from chance to 1."""
    return accuracy - chance >= _ABOVE_CHANCE * (1 - chance)


def first_length(proxy: Proxy, images: int) -> int:
    """Epochs of a screening, so that it sees as many images as the recipe means to.

    `images` is the number of training images there are.
    """
    seen = min(proxy.train_images or images, images)
    return max(proxy.epochs, math.ceil(_IMAGES / seen))


def run_pilot(
    executor: Executor, network: Architecture, proxy: Proxy, images: int, chance: float, seed: int
) -> Pilot:
    """Train a reference for longer and longer, until it is well above chance.

    Args:
        executor: of the study.
        network: a reference within the smallest budget.
        proxy: the recipe of a screening.
        images: number of training images.
        chance: share of the largest class, or of one class of many.
        seed: of the trainings.

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
        epochs *= 2
    return Pilot(network.name, tuple(trainings), chance)
