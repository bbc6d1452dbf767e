"""Training time that early stopping saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.study.records import State, TrialRecord


@dataclass(frozen=True, slots=True)
class Savings:
    """What racing saved: trials stopped, and the seconds that their rest would have cost."""

    stopped: int
    trials: int
    seconds_saved: float
    seconds_spent: float

    @property
    def share(self) -> float | None:
        """Share of the training that was saved; None where nothing was, or it took no time."""
        whole = self.seconds_saved + self.seconds_spent
        return self.seconds_saved / whole if self.stopped and whole > 0 else None


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
