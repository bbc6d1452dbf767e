"""Front racing: between epochs, stop a trial that will add too little to the front.

Optuna cannot stop trials of a study with two objectives, and stopping by accuracy alone would kill
the small networks first. Here a trial is held against those only that cost no more than it does,
and not by how it stands half-way but by how it is likely to end: networks learn at different
speeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from mbsearch.config.racing_settings import Racing
from mbsearch.study.log_odds import accuracy_of, logit
from mbsearch.study.records import Epoch

# Strength of the belief that a standardised regressor says nothing, in trials.
RIDGE = 0.3


@dataclass(frozen=True, slots=True)
class Forecast:
    """How a trial is likely to end: a Student distribution over the logit of its accuracy."""

    centre: float
    spread: float
    freedom: int

    @property
    def accuracy(self) -> float:
        """The median."""
        return accuracy_of(self.centre)

    def probability_above(self, accuracy: float) -> float:
        """Probability of a final accuracy above this one, the noise of a training included."""
        return float(stdtr(self.freedom, (self.centre - logit(accuracy)) / self.spread))


@dataclass
class Race:
    """The trials of a study that were trained to the end, and the rule that looks at a new one."""

    settings: Racing
    with_finals: bool = False
    whole: list[tuple[int, Sequence[Epoch]]] = field(default_factory=list)

    def add(self, cost: int, curve: Sequence[Epoch]) -> None:
        """Take up the curve of a trial that was trained to the end."""
        self.whole.append((cost, curve))

    def next_rung(self, epochs: int, done: int, usual: int | None = None) -> int | None:
        """The epoch to train until before the next look; None for the end of the schedule.

        The rungs are meant for a schedule of `usual` epochs; a longer one has them later.
        """
        stretch = epochs / (usual or epochs)
        rungs = (round(stretch * rung) for rung in self.settings.rungs)
        return min((rung for rung in rungs if done < rung < epochs), default=None)

    def forecast(self, cost: int, curve: Sequence[Epoch]) -> Forecast | None:
        """How a trial will end, from its last epoch; None with less than the least evidence.

        Ridge regression over the trials that ended, of the logit of the final accuracy on the logit
        of the accuracy and the log training loss after that epoch, on log cost, and on the
        square of that, for accuracy saturates. The training loss is an average over the whole
        epoch, and so much less noisy than the accuracy at a high learning rate.
        """
        peers = [(each, other) for each, other in self.whole if len(other) >= len(curve)]
        if len(peers) < self.settings.min_peers:
            return None
        rung = len(curve) - 1
        known = np.array([_signs(each, other[rung]) for each, other in peers])
        ends = np.array([logit(other[-1].validation_accuracy) for _, other in peers])
        centre, scale = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-9)
        inputs = _with_square((known - centre) / scale)
        middle = inputs.mean(axis=0)
        inputs -= middle
        own = _with_square((np.array([_signs(cost, curve[-1])]) - centre) / scale)[0] - middle
        covariance = np.linalg.inv(inputs.T @ inputs + RIDGE * np.eye(len(own)))
        weights = covariance @ inputs.T @ (ends - ends.mean())
        misses = ends - ends.mean() - inputs @ weights
        freedom = max(1, len(peers) - 1 - len(own))
        variance = float(misses @ misses) / freedom * (1 + 1 / len(peers) + own @ covariance @ own)
        spread = max(math.sqrt(variance), 1e-6)
        return Forecast(float(ends.mean() + own @ weights), spread, freedom)

    def prune_reason(self, cost: int, curve: Sequence[Epoch]) -> str | None:
        """Why a trial is stopped after the last epoch of its curve; None where it goes on.

        It is stopped when it will, with the `confidence` of the settings, not end `gain` above the
        best trial of at most its cost, and so add little or nothing to the front. In a search with
        finals it is stopped when it will end `slack` below that trial.
        """
        forecast, settings = self.forecast(cost, curve), self.settings
        rivals = [other[-1].validation_accuracy for each, other in self.whole if each <= cost]
        if forecast is None or not rivals:
            return None
        needed = max(rivals) + (-settings.slack if self.with_finals else settings.gain)
        if forecast.probability_above(needed) >= 1 - settings.confidence:
            return None
        return (
            f"pruned after epoch {len(curve)}: predicted {forecast.accuracy:.3f}, "
            f"needs {needed:.3f}"
        )


def _signs(cost: int, epoch: Epoch) -> list[float]:
    loss = math.log(max(epoch.train_loss, 1e-6))
    return [math.log10(cost), logit(epoch.validation_accuracy), loss]


def _with_square(signs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([signs, signs[:, 0] ** 2])
