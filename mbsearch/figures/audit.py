"""Figure and table of an audit: Kendall's tau of each score with the true accuracies."""

from __future__ import annotations

import plotly.graph_objects as go

from mbsearch.config.proxy_settings import data_title
from mbsearch.cost.metrics import METRICS
from mbsearch.figures.style import FRONT, GREY, OTHER, styled
from mbsearch.study.audit_file import MULT_ADDS, PARAMS, PROXY, WITH_COST, WITH_GROWTH, Audit

SCORES = {
    MULT_ADDS: METRICS[MULT_ADDS].column,
    PARAMS: METRICS[PARAMS].column,
    PROXY: "Proxy (loss)",
    f"{PROXY} accuracy": "Proxy (accuracy)",
    WITH_COST: "Proxy + Mult-Adds",
    WITH_GROWTH: "Proxy + growth",
}
HEAD = ("Score", "Tau", "90 % interval", "Smallest third", "Middle", "Largest", "Regret")
"""Columns of the table. The thirds are by cost. `audit_facts` explains the regret."""

_THIRDS = (
    ("Smallest third", "#E69F00", "triangle-down-open"),
    ("Middle third", "#CC79A7", "circle-open"),
    ("Largest third", OTHER, "triangle-up-open"),
)


def audit_figure(audit: Audit) -> go.Figure:
    """Return Kendall's tau of each score: overall with a 90 % interval, and per cost third."""
    ranked = list(reversed(audit.rankings))
    names = [SCORES.get(each.score, each.score) for each in ranked]
    figure = go.Figure(
        go.Scatter(
            x=[each.tau for each in ranked],
            y=names,
            name="All networks, 90 % interval",
            mode="markers",
            marker={"color": FRONT, "size": 11},
            error_x={
                "array": [each.high - each.tau for each in ranked],
                "arrayminus": [each.tau - each.low for each in ranked],
                "color": FRONT,
                "thickness": 2,
            },
            hovertemplate="%{y}: %{x:.2f}<extra></extra>",
        )
    )
    for i, (name, colour, symbol) in enumerate(_THIRDS):
        figure.add_trace(
            go.Scatter(
                x=[each.thirds[i] for each in ranked],
                y=names,
                name=name,
                mode="markers",
                marker={"color": colour, "size": 10, "symbol": symbol, "line": {"width": 2}},
                hovertemplate="%{y}: %{x:.2f}<extra>" + name + "</extra>",
            )
        )
    styled(figure, hovermode="closest")
    figure.update_xaxes(title_text="Kendall's tau")
    figure.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dot"})
    return figure


def audit_rows(audit: Audit) -> list[list[str]]:
    """Return the table rows of an audit, one for each score, with the columns of `HEAD`."""
    return [
        [
            SCORES.get(each.score, each.score),
            f"{each.tau:.2f}",
            f"{each.low:.2f} to {each.high:.2f}",
            *(f"{tau:.2f}" for tau in each.thirds),
            f"{each.regret:.4f}",
        ]
        for each in audit.rankings
    ]


def audit_facts(audit: Audit) -> str:
    """Return a text on the reference accuracies, the proxy's time and noise, and the terms."""
    noise = (
        ""
        if audit.noise is None
        else f"; the standard deviation of its {audit.score.noun} is {audit.noise:.4f}"
    )
    return (
        f"Reference accuracies: {audit.truth}, on {data_title(audit.data)}. One run of the "
        f"proxy takes {audit.seconds:.1f} s{noise}. A tau of 1 means equal order, 0 chance. "
        f"Regret is the reference {audit.score.noun} lost by choosing the network with the highest "
        "score, averaged over four budgets."
    )
