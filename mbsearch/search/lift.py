"""What a longer training adds to accuracies: the bridge between two fidelities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

_LEAST_PAIRS = 3
_LEAST_SPREAD = 0.01


def logit(accuracy: float) -> float:
    """Log odds of an accuracy, which is kept off 0 and 1."""
    inside = min(max(accuracy, 1e-3), 1 - 1e-3)
    return math.log(inside / (1 - inside))


@dataclass(frozen=True, slots=True)
class Lift:
    """A shift of the logit, the same for every network, and the spread of networks around it.

    On the logit a step near 1 counts for more, so that one shift fits bad networks and good ones.
    """

    shift: float
    spread: float

    @staticmethod
    def between(short: Sequence[float], long: Sequence[float]) -> Lift | None:
        """From the accuracies of the same networks after either training; None of too few."""
        if len(short) < _LEAST_PAIRS:
            return None
        steps = [logit(b) - logit(a) for a, b in zip(short, long, strict=True)]
        return Lift(fmean(steps), max(pstdev(steps), _LEAST_SPREAD))

    def of(self, accuracy: float) -> float:
        """The accuracy to expect after the longer training."""
        return 1.0 / (1.0 + math.exp(-logit(accuracy) - self.shift))
