"""Training time saved by pruning (racing)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.study.records import State, TrialRecord


@dataclass(frozen=True, slots=True)
class Savings:
    """Number of pruned trials, and the training seconds saved and spent."""

    pruned: int
    trials: int
    seconds_saved: float
    seconds_spent: float

    @property
    def share(self) -> float | None:
        """Share of the training time that was saved; None if nothing was pruned."""
        whole = self.seconds_saved + self.seconds_spent
        return self.seconds_saved / whole if self.pruned and whole > 0 else None


def savings(records: Sequence[TrialRecord]) -> Savings:
    """Return how many training seconds searched trials spent, and how many racing saved.

    The remaining epochs of a pruned trial are counted with its own seconds per epoch.
    """
    trained = [r for r in records if not r.is_baseline and r.evaluation is not None]
    pruned = [r.evaluation for r in trained if r.state is State.PRUNED and r.evaluation]
    return Savings(
        pruned=len(pruned),
        trials=len(trained),
        seconds_saved=sum(e.seconds * (e.recipe["epochs"] / len(e.curve) - 1) for e in pruned),
        seconds_spent=sum(r.evaluation.seconds for r in trained if r.evaluation),
    )
