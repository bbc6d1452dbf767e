"""Bias of the proxy for or against a reference family, compared with candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from mbsearch.analysis.calibration import Calibration
from mbsearch.analysis.intervals import Z_95
from mbsearch.analysis.rank_agreement import Judged
from mbsearch.study.audit_file import FamilyBias


def family_bias(family: str, members: Sequence[Judged], candidates: Sequence[Judged]) -> FamilyBias:
    """Return a family's mean true accuracy minus that predicted from proxy accuracy.

    The prediction is a `Calibration` of the candidates, between the logits of both accuracies.

    Raises:
        ValueError: there are fewer than three candidates, or no member.
    """
    line = Calibration.between(
        [fmean(c.accuracies) for c in candidates], [c.truth for c in candidates]
    )
    if line is None or not members:
        raise ValueError(f"expected members and a line, got {len(members)} and {line}")

    def residual(network: Judged) -> float:
        return network.truth - line.of(fmean(network.accuracies))

    deviation = math.sqrt(sum(residual(c) ** 2 for c in candidates) / (len(candidates) - 2))
    error = Z_95 * deviation * math.sqrt(1 / len(members) + 1 / len(candidates))
    return FamilyBias(family, len(members), fmean(residual(m) for m in members), error)
