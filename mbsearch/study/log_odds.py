"""Accuracies on the scale of log odds, on which differences add up."""

from __future__ import annotations

import math


def logit(accuracy: float) -> float:
    """Log odds of an accuracy, which is kept off 0 and 1."""
    inside = min(max(accuracy, 1e-3), 1 - 1e-3)
    return math.log(inside / (1 - inside))


def accuracy_of(log_odds: float) -> float:
    """Inverse of `logit`."""
    return 1.0 / (1.0 + math.exp(-log_odds))


MOST = accuracy_of(logit(1.0))
"""The accuracy to which `logit` clips an accuracy of 1."""
