"""Margins of test accuracy between retrained networks."""

from __future__ import annotations

from collections.abc import Sequence

from mbsearch.analysis.answer import points, retrained_margin
from mbsearch.study.retrained_file import Retrained, RetrainedMargin


def retrained_margins(retrained: Sequence[Retrained]) -> list[RetrainedMargin]:
    """Compare every candidate with its references, over the same test images."""
    candidates = {each.name: each for each in retrained if each.compared_with is None}
    return [
        _margin(candidates[each.compared_with], each, retrained)
        for each in retrained
        if each.compared_with is not None
    ]


def _margin(
    candidate: Retrained, reference: Retrained, among: Sequence[Retrained]
) -> RetrainedMargin:
    difference = retrained_margin(candidate, reference, among)
    return RetrainedMargin(
        candidate.name,
        reference.name,
        difference.mean,
        difference.low,
        difference.high,
        f"{candidate.name}: {points(difference.mean)} points over {reference.name} "
        f"({difference.in_points()})",
    )
