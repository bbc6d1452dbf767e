"""Whether a proxy is fair to the MobileNets, or favours them or the candidates of a space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mbsearch.analysis.calibration import Calibration
from mbsearch.pareto import Z_95
from mbsearch.ranking import Judged


@dataclass(frozen=True, slots=True)
class Lean:
    """How much higher a family truly ends than candidates that the proxy finds as accurate.

    `gain` is the mean over its `networks`, a difference of accuracies: above 0 the proxy finds the
    family worse than it is, below 0 better. `error` is the 95 % bound of what chance makes of a
    family that is like the candidates.
    """

    family: str
    networks: int
    gain: float
    error: float

    def clause(self) -> str:
        """``mobilenet_v2 ends 0.030 above (more than chance, 0.012: ...)``."""
        way = "above" if self.gain > 0 else "below"
        verdict = f"within chance, {self.error:.3f}"
        if abs(self.gain) > self.error:
            says = "is unfair to it" if self.gain > 0 else "favours it"
            verdict = f"more than chance, {self.error:.3f}: the proxy {says}"
        return f"{self.family} ends {abs(self.gain):.3f} {way} ({verdict})"


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
