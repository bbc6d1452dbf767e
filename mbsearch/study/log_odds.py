"""Conversion between accuracies and log odds."""

from __future__ import annotations

import math


def logit(accuracy: float) -> float:
    """Return the log odds of an accuracy, clipped to [0.001, 0.999]."""
    inside = min(max(accuracy, 1e-3), 1 - 1e-3)
    return math.log(inside / (1 - inside))


def accuracy_of(log_odds: float) -> float:
    """Return the accuracy with given log odds."""
    return 1.0 / (1.0 + math.exp(-log_odds))


MOST = accuracy_of(logit(1.0))
"""The accuracy to which `logit` clips an accuracy of 1."""
