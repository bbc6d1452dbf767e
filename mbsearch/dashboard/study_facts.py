"""The header's line on a study: images, initial weights, proxy training, current run."""

from __future__ import annotations

from mbsearch.config.proxy_settings import data_title
from mbsearch.dashboard.live_run import duration
from mbsearch.dashboard.studies import Snapshot
from mbsearch.study.identity import IDENTITY
from mbsearch.study.latency_setting import LatencySetting
from mbsearch.study.progress_file import RunProgress
from mbsearch.study.records import State
from mbsearch.study.store import DONOR


def study_facts(snapshot: Snapshot) -> str:
    """Return text such as ``Fashion-MNIST (built-in) · from scratch · proxy of 4 epochs``.

    A part that the study does not state is left out.
    """
    identity = snapshot.settings.get(IDENTITY) or {}
    weights = _weights(identity, snapshot.settings.get(DONOR) or {})
    found = [_data(identity.get("data")), weights, _proxy(identity.get("proxy") or {})]
    latency = LatencySetting.of(snapshot.settings)
    found.append(None if latency is None else f"latency on {latency}")
    return " · ".join(filter(None, [*found, _running(snapshot)]))


def _data(source: str | None) -> str | None:
    return None if source is None else data_title(source)


def _weights(identity: dict[str, object], donor: dict[str, object]) -> str | None:
    if "data" not in identity:
        return None
    weights = identity.get("weights")
    if weights in (None, "none"):
        return "from scratch"
    return f"weights of {donor.get('title', weights)}"


def _proxy(proxy: dict[str, object]) -> str | None:
    epochs, images = proxy.get("epochs"), proxy.get("train_images")
    if epochs is None:
        return None
    return f"proxy of {epochs} epochs" + (f", at most {images:,} images" if images else "")


def _running(snapshot: Snapshot) -> str | None:
    running = sum(r.state is State.RUNNING for r in snapshot.records)
    if not running:
        return None
    progress = RunProgress.read(snapshot.folder)
    left = None if progress is None else progress.seconds_left
    if left is None:
        return f"{running} running"
    return f"{running} running, {duration(left)} left"
