"""A run's clock, which orders and times trials even if the time of day is changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MOMENT = "moment"
"""User attribute of a trial: the `Moment` of its end, as plain data."""
STARTED = "started"
"""Key of a trial's record: the time of its start in UTC, as text."""


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """A time in a study: the run, the seconds since it began, and the time of day.

    Args:
        run: number of the run, from 1; each resumption is another run.
        seconds: since the run began, on a clock that is never set and does not count suspension.
        time: the time of day in UTC.
    """

    run: int
    seconds: float
    time: datetime

    def to_dict(self) -> dict[str, Any]:
        """Encode as plain data."""
        return {"run": self.run, "seconds": self.seconds, "time": self.time.isoformat()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Moment:
        """Inverse of `to_dict`."""
        return Moment(data["run"], data["seconds"], datetime.fromisoformat(data["time"]))


@dataclass(frozen=True, slots=True)
class RunClock:
    """The clock of one run of a study."""

    run: int
    _began: float = field(default_factory=time.monotonic)

    def now(self) -> Moment:
        """Return the current `Moment`."""
        return Moment(self.run, time.monotonic() - self._began, datetime.now(UTC))
