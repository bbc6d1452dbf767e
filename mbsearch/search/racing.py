"""Front racing: prune trials whose predicted accuracy adds too little to the front.

Optuna cannot prune trials of a study with two objectives, and pruning by accuracy alone would prune
the small networks first. Here a trial is compared with trials of at most its cost, by its predicted
final accuracy, because networks learn at different speeds.
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

# Ridge penalty of the standardised regressors.
RIDGE = 0.3


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted final accuracy of a trial, as a Student t-distribution of its logit."""

    centre: float
    spread: float
    freedom: int

    @property
    def accuracy(self) -> float:
        """Median of the predicted final accuracy."""
        return accuracy_of(self.centre)

    def probability_above(self, accuracy: float) -> float:
        """Return the probability that the final accuracy is above a given accuracy.

        It includes the noise of the final accuracy.
        """
        return float(stdtr(self.freedom, (self.centre - logit(accuracy)) / self.spread))


@dataclass
class Race:
    """The pruning rule of a study, with the learning curves of its completed trials."""

    settings: Racing
    with_finals: bool = False
    completed: list[tuple[int, Sequence[Epoch]]] = field(default_factory=list)

    def add(self, cost: int, curve: Sequence[Epoch]) -> None:
        """Add the learning curve of a completed trial."""
        self.completed.append((cost, curve))

    def next_rung(self, epochs: int, done: int, usual: int | None = None) -> int | None:
        """Return the next epoch after which a trial may be pruned, or None.

        It is below `epochs` and above `done`. The rungs are for a schedule of `usual` epochs; they
        are stretched for a longer one.
        """
        stretch = epochs / (usual or epochs)
        rungs = (round(stretch * rung) for rung in self.settings.rungs)
        return min((rung for rung in rungs if done < rung < epochs), default=None)

    def forecast(self, cost: int, curve: Sequence[Epoch]) -> Forecast | None:
        """Predict a trial's final accuracy from its last epoch; None with too few completed trials.

        A ridge regression over the completed trials: the logit of the final accuracy on the logit
        of the accuracy and the log training loss after that epoch, on log cost and its square. The
        training loss is an average over the epoch, and so less noisy than the accuracy at a high
        learning rate.
        """
        peers = [(each, other) for each, other in self.completed if len(other) >= len(curve)]
        if len(peers) < self.settings.min_peers:
            return None
        rung = len(curve) - 1
        known = np.array([_regressors(each, other[rung]) for each, other in peers])
        ends = np.array([logit(other[-1].validation_accuracy) for _, other in peers])
        centre, scale = known.mean(axis=0), np.maximum(known.std(axis=0), 1e-9)
        inputs = _with_square((known - centre) / scale)
        middle = inputs.mean(axis=0)
        inputs -= middle
        own = _with_square((np.array([_regressors(cost, curve[-1])]) - centre) / scale)[0] - middle
        covariance = np.linalg.inv(inputs.T @ inputs + RIDGE * np.eye(len(own)))
        weights = covariance @ inputs.T @ (ends - ends.mean())
        misses = ends - ends.mean() - inputs @ weights
        freedom = max(1, len(peers) - 1 - len(own))
        variance = float(misses @ misses) / freedom * (1 + 1 / len(peers) + own @ covariance @ own)
        spread = max(math.sqrt(variance), 1e-6)
        return Forecast(float(ends.mean() + own @ weights), spread, freedom)

    def prune_reason(self, cost: int, curve: Sequence[Epoch]) -> str | None:
        """Return why a trial is pruned after its last epoch, or None to continue.

        A trial is pruned if, with the `confidence` of the settings, its final accuracy is not
        `gain` above that of the best trial of at most its cost. In a search with finals it is
        pruned if its final accuracy is more than `slack` below that of the best.
        """
        forecast, settings = self.forecast(cost, curve), self.settings
        others = [other[-1].validation_accuracy for each, other in self.completed if each <= cost]
        if forecast is None or not others:
            return None
        needed = max(others) + (-settings.slack if self.with_finals else settings.gain)
        if forecast.probability_above(needed) >= 1 - settings.confidence:
            return None
        return (
            f"pruned after epoch {len(curve)}: predicted {forecast.accuracy:.3f}, "
            f"needs {needed:.3f}"
        )


def _regressors(cost: int, epoch: Epoch) -> list[float]:
    loss = math.log(max(epoch.train_loss, 1e-6))
    return [math.log10(cost), logit(epoch.validation_accuracy), loss]


def _with_square(regressors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the square of the first column."""
    return np.column_stack([regressors, regressors[:, 0] ** 2])
