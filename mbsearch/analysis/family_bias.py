"""Whether a proxy is fair to the MobileNets, or favours them or the candidates of a space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from mbsearch.analysis.calibration import Calibration
from mbsearch.analysis.pareto import Z_95
from mbsearch.analysis.rank_agreement import Judged
from mbsearch.study.artifacts import Lean


def lean(family: str, members: Sequence[Judged], candidates: Sequence[Judged]) -> Lean:
    """Where a family lies beside the line that leads from the candidates' proxy to their truth.

    The line is a `Calibration`, between logits of accuracies.

    Raises:
        ValueError: there are fewer than three candidates, or no member.
    """
    line = Calibration.between(
        [fmean(c.accuracies) for c in candidates], [c.truth for c in candidates]
    )
    if line is None or not members:
        raise ValueError(f"expected members and a line, got {len(members)} and {line}")

    def beside(network: Judged) -> float:
        return network.truth - line.of(fmean(network.accuracies))

    around = math.sqrt(sum(beside(c) ** 2 for c in candidates) / (len(candidates) - 2))
    error = Z_95 * around * math.sqrt(1 / len(members) + 1 / len(candidates))
    return Lean(family, len(members), fmean(beside(m) for m in members), error)
