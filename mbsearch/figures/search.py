"""Figure of a search's progress: hypervolume over trials or training time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate

import plotly.graph_objects as go

from mbsearch.analysis import pareto
from mbsearch.cost.metrics import find_metric
from mbsearch.figures.style import FRONT, GREY, OPTION_COLOURS, styled, validation_title
from mbsearch.study.records import State, TrialRecord, complete, metric_of, score_of_study

_TITLES = {
    "trials": "Trials completed or pruned",
    "time": "Training time, all workers together (minutes)",
}
_EVALUATED = (State.COMPLETE, State.PRUNED)


def hypervolume_figure(
    records: Sequence[TrialRecord],
    against: str = "trials",
    beside: tuple[str, Sequence[TrialRecord]] | None = None,
) -> go.Figure:
    """Return the front's hypervolume over log10 cost as the search progressed.

    Args:
        records: of one study.
        against: the x axis, ``trials`` or ``time``.
        beside: name and records of a second study to compare with; records without this study's
            cost are left out.
    """
    metric = metric_of(records)
    others = [] if beside is None else [r for r in _evaluated(beside[1]) if metric in r.costs]
    done = _evaluated(records)
    worst = max((r.costs[metric] for r in complete([*done, *others])), default=1)

    def line(members: Sequence[TrialRecord], name: str, colour: str, dash: str) -> go.Scatter:
        volumes = pareto.hypervolume_history(  # pruned trials are not part of the front
            [r.accuracy if r.state is State.COMPLETE else 0.0 for r in members],
            [math.log10(r.costs[metric]) for r in members],
            (0.0, math.log10(worst)),
        )
        seconds = accumulate(r.evaluation.seconds if r.evaluation else 0.0 for r in members)
        minutes = [total / 60 for total in seconds]
        return go.Scatter(
            x=list(range(1, len(members) + 1)) if against == "trials" else minutes,
            y=volumes,
            name=name,
            mode="lines",
            line={"color": colour, "width": 2, "dash": dash, "shape": "hv"},
            hovertemplate="%{y:.4f}",
        )

    searched = [r for r in done if not r.is_baseline]
    figure = go.Figure()
    if len(done) > len(searched):
        figure.add_trace(line(done, "With the baselines", GREY, "solid"))
    figure.add_trace(line(searched, "The search alone", FRONT, "solid"))
    if beside is not None:
        alone = [r for r in others if not r.is_baseline]
        figure.add_trace(line(alone, f"{beside[0]}, alone", OPTION_COLOURS[1], "dash"))
    styled(figure, hovermode="x unified")
    figure.update_xaxes(title_text=_TITLES[against], rangemode="tozero")
    title = f"Hypervolume over log10 {find_metric(metric).noun}"
    figure.update_yaxes(title_text=title, tickformat=".2f")
    return figure


def running_figure(
    curves: Mapping[int, Sequence[float]], records: Mapping[int, TrialRecord]
) -> go.Figure:
    """Return a figure of the validation accuracy by epoch of each training that is running.

    Args:
        curves: by trial.
        records: by trial, for the names.
    """
    figure = go.Figure()
    for i, (trial, curve) in enumerate(sorted(curves.items())):
        figure.add_trace(
            go.Scatter(
                x=list(range(1, len(curve) + 1)),
                y=list(curve),
                name=records[trial].label if trial in records else f"trial {trial}",
                mode="lines+markers",
                line={"color": OPTION_COLOURS[i % len(OPTION_COLOURS)], "width": 2},
                hovertemplate="%{y:.3f}",
            )
        )
    styled(figure, hovermode="x unified", showlegend=True, uirevision="running")
    epochs = max(map(len, curves.values()), default=1)
    figure.update_xaxes(title_text="Epoch", dtick=max(1, math.ceil(epochs / 12)))
    title = validation_title(score_of_study(list(records.values())))
    return figure.update_yaxes(title_text=title, tickformat=".2f")


def _evaluated(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the completed and pruned trials, sorted by when they ended."""
    return sorted(
        (r for r in records if r.evaluation is not None and r.state in _EVALUATED),
        key=lambda r: r.end_order,
    )
