"""Margins in test accuracy between retrained networks."""

from __future__ import annotations

from collections.abc import Sequence

from mbsearch.analysis.intervals import Interval, points
from mbsearch.analysis.repeated_trainings import (
    Trainings,
    pooled_seed_deviation_of,
    trainings_of_retrained,
)
from mbsearch.study.retrained_file import Retrained, RetrainedMargin


def retrained_margins(retrained: Sequence[Retrained]) -> list[RetrainedMargin]:
    """Return each candidate's margins over its references, on the same test images.

    The deviation over seeds is pooled over all networks.
    """
    pairs = [(each, trainings_of_retrained(each)) for each in retrained]
    candidates = {each.name: trainings for each, trainings in pairs if each.compared_with is None}
    deviation = pooled_seed_deviation_of([trainings for _, trainings in pairs]) if pairs else 0.0
    return [
        _margin(each.compared_with, each.name, candidates[each.compared_with], trainings, deviation)
        for each, trainings in pairs
        if each.compared_with is not None
    ]


def _margin(
    candidate: str, reference: str, first: Trainings, second: Trainings, seed_deviation: float
) -> RetrainedMargin:
    difference: Interval = first.margin(second, seed_deviation)
    return RetrainedMargin(
        candidate,
        reference,
        difference.mean,
        difference.low,
        difference.high,
        f"{candidate}: {points(difference.mean)} points over {reference} "
        f"({difference.in_points()})",
    )
