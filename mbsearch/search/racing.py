"""Front racing: between epochs, stop a trial that trials of at most its cost have left behind.

Optuna cannot stop trials of a study with two objectives, and stopping by accuracy alone would kill
the small networks first. Here a trial is held against those only that cost no more than it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, median

from mbsearch.records import Epoch, State, TrialRecord
from mbsearch.space.settings import Racing


@dataclass
class Race:
    """The curves of a study so far, and the rule that compares a new one with them.

    `noise` maps a rung (an epoch, counted from 1) to the standard deviation of the accuracy there
    over seeds; rungs without one use that of the last epoch, or nothing is stopped.
    """

    settings: Racing
    noise: dict[int, float]
    curves: list[tuple[int, Sequence[Epoch], bool]] = field(default_factory=list)

    def add(self, mult_adds: int, curve: Sequence[Epoch], *, whole: bool) -> None:
        """Take up the curve of a trial that ended; `whole` if it was not stopped."""
        self.curves.append((mult_adds, curve, whole))

    def next_rung(self, epochs: int, done: int) -> int | None:
        """The epoch to train until before the next look; None for the end of the schedule."""
        return next((rung for rung in self.settings.rungs if done < rung < epochs), None)

    def verdict(self, mult_adds: int, curve: Sequence[Epoch]) -> str | None:
        """Why a trial is stopped after the last epoch of its curve; None where it goes on.

        It is stopped when its accuracy lies under that of `min_peers` trials of at most its cost at
        the same epoch by more than `slack` and than chance allows: the difference of two
        evaluations has sqrt(2) times the noise of one, and is held against the one-sided normal
        quantile of `confidence`. Several peers, not the luckiest one, have to agree.
        """
        rung, settings = len(curve), self.settings
        noise = self.noise.get(rung)
        if noise is None:
            return None
        peers = sorted(
            (
                other[rung - 1].validation_accuracy
                for cost, other, _ in self.curves
                if cost <= mult_adds and len(other) >= rung
            ),
            reverse=True,
        )
        if len(peers) < settings.min_peers:
            return None
        bar = peers[settings.min_peers - 1]
        own = curve[-1].validation_accuracy
        quantile = NormalDist().inv_cdf(settings.confidence)
        if bar - own <= settings.slack + quantile * math.sqrt(2) * noise:
            return None
        return (
            f"stopped after epoch {rung}: accuracy {own:.3f} is, with {settings.confidence:.0%} "
            f"confidence, below the {bar:.3f} that {settings.min_peers} trials of at most its "
            "Mult-Adds had there"
        )

    def forecast(self, curve: Sequence[Epoch]) -> float:
        """Accuracy that a stopped trial would have ended with, by the median gain of whole ones."""
        rung, last = len(curve), curve[-1].validation_accuracy
        gains = [
            other[-1].validation_accuracy - other[rung - 1].validation_accuracy
            for _, other, whole in self.curves
            if whole and len(other) >= rung
        ]
        return min(1.0, last + (median(gains) if gains else 0.0))


def rung_noise(repeats: Iterable[Sequence[Sequence[Epoch]]]) -> dict[int, float]:
    """Pooled standard deviation of the accuracy after each epoch, over networks with several seeds.

    `repeats` holds, for each network, the curves of its trainings.
    """
    squares: dict[int, float] = {}
    freedom: dict[int, int] = {}
    for curves in repeats:
        for rung in range(1, min(map(len, curves)) + 1):
            accuracies = [curve[rung - 1].validation_accuracy for curve in curves]
            mean = sum(accuracies) / len(accuracies)
            squares[rung] = squares.get(rung, 0.0) + sum((a - mean) ** 2 for a in accuracies)
            freedom[rung] = freedom.get(rung, 0) + len(accuracies) - 1
    return {rung: math.sqrt(squares[rung] / n) for rung, n in freedom.items() if n > 0}


@dataclass(frozen=True, slots=True)
class Savings:
    """What racing saved: trials stopped, and the seconds that their rest would have cost."""

    stopped: int
    trials: int
    seconds_saved: float
    seconds_spent: float


def savings(records: Sequence[TrialRecord]) -> Savings:
    """Training seconds of the search's trials, spent and saved by racing.

    The rest of a stopped trial is reckoned at its own seconds an epoch.
    """
    trained = [r for r in records if not r.is_baseline and r.evaluation is not None]
    stopped = [r.evaluation for r in trained if r.state is State.PRUNED and r.evaluation]
    return Savings(
        stopped=len(stopped),
        trials=len(trained),
        seconds_saved=sum(e.seconds * (e.recipe["epochs"] / len(e.curve) - 1) for e in stopped),
        seconds_spent=sum(r.evaluation.seconds for r in trained if r.evaluation),
    )
