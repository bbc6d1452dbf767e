"""The line of the header: which images, which start weights, which proxy, what is running."""

from __future__ import annotations

from datetime import timedelta

from mbsearch.dashboard.studies import Snapshot
from mbsearch.study.records import State

_PACE_TRIALS = 20  # the number of last trials that the speed is measured on
_ENDLESS = 10**8  # a search by time has no number of trials to count towards


def study_facts(snapshot: Snapshot) -> str:
    """Return ``Fashion-MNIST (built-in) · from scratch · 4 epochs · 2 running, 7 min left``.

    A part that the study does not state is left out.
    """
    stamp = snapshot.settings.get("stamp") or {}
    found = [_data(stamp.get("data")), _weights(stamp), _proxy(stamp.get("proxy") or {})]
    return " · ".join(filter(None, [*found, _running(snapshot)]))


def _data(source: str | None) -> str | None:
    return "Fashion-MNIST (built-in)" if source == "embedded" else source


def _weights(stamp: dict[str, object]) -> str | None:
    if "data" not in stamp:
        return None
    weights = stamp.get("weights")
    return "from scratch" if weights in (None, "none") else f"weights {weights}"


def _proxy(proxy: dict[str, object]) -> str | None:
    epochs, images = proxy.get("epochs"), proxy.get("train_images")
    if epochs is None:
        return None
    return f"proxy of {epochs} epochs" + (f", {images:,} images" if images else "")


def _running(snapshot: Snapshot) -> str | None:
    running = sum(r.state is State.RUNNING for r in snapshot.records)
    if not running:
        return None
    left = _seconds_left(snapshot)
    if left is None:
        return f"{running} running"
    minutes = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    text = str(timedelta(seconds=round(left, -1))) if left >= 3600 else minutes
    return f"{running} running, {text} left"


def _seconds_left(snapshot: Snapshot) -> float | None:
    """Return the mean time between the last completions, times the trials that are left."""
    target = snapshot.settings.get("run", {}).get("target", 0)
    ended = sum(not r.is_baseline and r.ended is not None for r in snapshot.records)
    ends = sorted(r.ended for r in snapshot.records if r.ended is not None)[-_PACE_TRIALS:]
    if not ended < target < _ENDLESS or len(ends) < 2:
        return None
    return (ends[-1] - ends[0]).total_seconds() / (len(ends) - 1) * (target - ended)
