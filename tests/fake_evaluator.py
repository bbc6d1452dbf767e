"""An evaluator without training, whose accuracy is a smooth function of the network."""

from __future__ import annotations

import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbsearch.cost import measure
from mbsearch.errors import DataError, EvaluationError
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.study.records import Epoch, Evaluation, Fidelity, Int8Evaluation, Predictions


@dataclass(frozen=True, slots=True)
class FakeEvaluator:
    """Evaluator that sleeps instead of training; accuracy rises with log Mult-Adds.

    With `epochs` above 1 each epoch halves the distance to the final accuracy. Networks of
    `bad_resolutions` have half the accuracy. Promotions and finals halve the error, nearly without
    noise. While the file `dies_on` exists, the worker removes it and kills itself. While the file
    `trouble` exists, the images cannot be read.
    """

    seconds: float = 0.0
    noise: float = 0.01
    dies_on: Path | None = None
    always_dies: bool = False
    fails: bool = False
    fails_with: int | None = None  # a seed
    trouble: Path | None = None
    epochs: int = 1
    bad_resolutions: tuple[int, ...] = ()
    fails_finals: bool = False
    slow: bool = False  # halve the distance every twenty epochs

    def evaluate(self, task: Task) -> Outcome:
        time.sleep(self.seconds)
        if self.always_dies or (self.dies_on is not None and self.dies_on.exists()):
            if self.dies_on is not None:
                self.dies_on.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble is not None and self.trouble.exists():
            raise DataError("a.png: expected an image, got something else")
        if self.fails or (task.seed == self.fails_with and task.fidelity is Fidelity.SCREENING):
            raise EvaluationError("training diverged in epoch 1: the loss is nan")
        rng = np.random.default_rng(task.seed)
        cost = math.log10(measure(task.architecture)["mult_adds"])
        accuracy = float(1 - 3 / cost**1.2 + rng.normal(0, self.noise))
        if task.architecture.resolution.plain in self.bad_resolutions:
            accuracy /= 2
        if task.fidelity is not Fidelity.SCREENING:
            accuracy = float(1 - (3 / cost**1.2 - rng.normal(0, self.noise / 10)) / 2)
        final = task.fidelity is Fidelity.FINAL
        if final and self.fails_finals:
            raise EvaluationError("training diverged in epoch 1: the loss is nan")
        pace = 20 if self.slow else 1
        done = int(task.checkpoint or b"0")
        epochs = task.epochs or self.epochs
        stop = min(task.stop_epoch or epochs, epochs)
        curve = tuple(
            Epoch(1.0, 1.0, accuracy * (1 - 0.5 ** (e / pace)), self.seconds)
            for e in range(1, stop + 1)
        )
        assert stop > done, "a rung must continue the last one"
        accuracy = curve[-1].validation_accuracy
        return Outcome(
            Evaluation(
                accuracy=accuracy,
                validation_loss=-math.log(max(accuracy, 0.01)),
                seconds=self.seconds * stop,
                seed=task.seed,
                pixels=task.architecture.resolution,
                curve=curve,
                evaluator="fake",
                recipe={"epochs": epochs},
                device="none",
                predictions=_predictions(accuracy, task.seed) if final and stop == epochs else None,
                int8=_int8(accuracy, task.seed) if task.int8 else None,
            ),
            str(stop).encode() if stop < epochs else None,
            b"weights" if final and stop == epochs else None,
        )


def _int8(accuracy: float, seed: int) -> Int8Evaluation:
    """Return an int8 validation that took 10 ms and classifies 4 % of the images worse."""
    return Int8Evaluation(_predictions(accuracy - 0.04, seed), 0.01)


def _predictions(accuracy: float, seed: int) -> Predictions:
    """Return predictions for 500 images in 10 classes with a given accuracy."""
    labels = np.arange(500, dtype=np.uint16) % 10
    wrong = np.random.default_rng(seed).permutation(500)[: round(500 * (1 - accuracy))]
    predicted = labels.copy()
    predicted[wrong] = (predicted[wrong] + 1) % 10
    return Predictions(labels, predicted)
