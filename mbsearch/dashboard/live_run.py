"""What a run on the study is doing: remaining time, learning curves so far, last messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

from mbsearch.dashboard import parts
from mbsearch.dashboard.studies import Snapshot
from mbsearch.figures.search import running_figure
from mbsearch.study.progress_file import RunProgress
from mbsearch.study.records import TrialRecord, score_of_study

_LONG = 3600  # seconds from which hours are shown


def live_panel(snapshot: Snapshot) -> Component | None:
    """Return a panel of the run in progress; None if no run reports to the study's folder."""
    progress = RunProgress.read(snapshot.folder)
    if progress is None:
        return None
    records = {r.trial: r for r in snapshot.records}
    reported = {trial: curve for trial, curve in progress.curves.items() if curve}
    children: list[Any] = [dmc.Text(progress_text(progress), id="progress", fw=600)]
    if reported:
        figure = running_figure(reported, records)
        score = score_of_study(snapshot.records)
        title = f"Validation {score.noun} of the running trainings"
        children.append(parts.graph("running", figure, title, "260px"))
    waiting = waiting_text(progress.curves, records)
    if waiting:
        children.append(dmc.Text(waiting, size="sm", c="dimmed"))
    if progress.messages:
        lines = [html.Div(line) for line in reversed(progress.messages)]
        children.append(html.Div(lines, className="log tall", tabIndex=0, id="log"))
    return parts.panel("Running now", *children, mb="md")


def progress_text(progress: RunProgress) -> str:
    """Return ``Search: 12 of 40 trainings completed, 2 running, about 7 min left``."""
    of = "" if progress.total is None else f" of {progress.total:,}"
    text = f"{progress.phase.capitalize()}: {progress.completed:,}{of} trainings completed"
    text += f", {progress.running} running"
    if progress.seconds_left is None:
        return text
    return f"{text}, about {duration(progress.seconds_left)} left"


def duration(seconds: float) -> str:
    """Return ``45 s``, ``7 min`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if seconds < _LONG else f"{minutes // 60} h {minutes % 60} min"


def waiting_text(
    curves: Mapping[int, Sequence[float]], records: Mapping[int, TrialRecord]
) -> str | None:
    """Return which running trainings have not reported an epoch; None if all have."""
    without = [trial for trial, curve in curves.items() if not curve]
    if not without:
        return None
    labels = [records[t].label if t in records else f"trial {t}" for t in without]
    return f"No epoch reported yet: {', '.join(labels)}."
