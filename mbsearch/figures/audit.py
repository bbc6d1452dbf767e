"""How well the proxy ranks: each score's agreement with the truth, and the same as a table."""

from __future__ import annotations

import plotly.graph_objects as go

from mbsearch.figures.style import FRONT, GREY, OTHER, styled
from mbsearch.study.audit_file import MULT_ADDS, PARAMS, PROXY, WITH_COST, WITH_GROWTH, Audit

SCORES = {
    MULT_ADDS: "Mult-Adds",
    PARAMS: "Parameters",
    PROXY: "Proxy (loss)",
    f"{PROXY} accuracy": "Proxy (accuracy)",
    WITH_COST: "Proxy + Mult-Adds",
    WITH_GROWTH: "Proxy + growth",
}
HEAD = ("Score", "Tau", "90 % interval", "Cheapest third", "Middle", "Dearest", "Regret")
"""Of the table: regret is the accuracy lost by taking the network that the score likes best."""

_THIRDS = (
    ("Cheapest third", "#E69F00", "triangle-down-open"),
    ("Middle third", "#CC79A7", "circle-open"),
    ("Dearest third", OTHER, "triangle-up-open"),
)


def audit_figure(audit: Audit) -> go.Figure:
    """Kendall's tau of each score with its 90 % interval, and inside thirds of the costs."""
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
    """One row a score, as `HEAD` names the columns."""
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
    """What was held against what, the noise and time of one run of the proxy, and the terms."""
    noise = "" if audit.noise is None else f", and the noise of its accuracy is {audit.noise:.4f}"
    return (
        f"The truth: {audit.truth}, on {audit.data}. One run of the proxy takes "
        f"{audit.seconds:.1f} s{noise}. A tau of 1 is the same order, 0 is chance. Regret is the "
        "true accuracy lost by taking the network that a score likes best, the mean over four "
        "budgets."
    )
