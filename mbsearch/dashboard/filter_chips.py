"""The filters in effect, as buttons that remove them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html
from dash.development.base_component import Component

from mbsearch.cost.metrics import amount
from mbsearch.dashboard.studies import Snapshot
from mbsearch.dashboard.view import View
from mbsearch.study.records import metric_of


def is_filtered(view: View) -> bool:
    """Return whether the view hides networks of some kinds."""
    return any((view.blocks, view.alphas, view.resolutions, view.states))


def filter_chips(snapshot: Snapshot, view: View) -> list[Component]:
    """Return a button for each filter, and how many networks are shown; nothing without filters.

    A bound on the study's cost is a budget, not a filter. The browser clears the controls that
    `data-clear` names.
    """
    found = [(field, text) for field, text in _filters(view) if text]
    axis = metric_of(snapshot.records)
    bounds = {m: bound for m, bound in view.budgets.items() if m != axis}
    found += [(f"max_{m}", f"at most {amount(m, bound)}") for m, bound in bounds.items()]
    if not found:
        return []
    records = [r for r in snapshot.findings.within if r.evaluation is not None]
    shown = sum(view.passes(r, ignoring=axis) for r in records)
    shown_text = (
        f"{shown:,} of {len(records):,} networks are shown. Filters do not change the answer."
    )
    every = ",".join(field for field, _ in found)
    chips = [_chip(text, field, f"Remove the filter {text}") for field, text in found]
    return [*chips, _chip("Reset", every, "Reset all filters"), html.Span(shown_text)]


def _filters(view: View) -> list[tuple[str, str]]:
    """Return each filter's field name and its text; the text is empty if no value is chosen."""
    return [
        ("blocks", _either("block", view.blocks)),
        ("alphas", _either("alpha", [f"{alpha:g}" for alpha in view.alphas])),
        ("resolutions", _either("resolution", [f"{side} px" for side in view.resolutions])),
        ("states", _either("state", view.states)),
    ]


def _either(name: str, values: Sequence[str]) -> str:
    return f"{name} {' or '.join(values)}" if values else ""


def _chip(text: str, clears: str, label: str) -> Component:
    attributes: dict[str, Any] = {"data-clear": clears, "aria-label": label}
    return html.Button(text, className="chip", type="button", **attributes)
