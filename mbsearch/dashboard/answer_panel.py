"""The answer's card on a page: sentence, badges, buttons, the retraining command, all budgets."""

from __future__ import annotations

import base64
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_card import AnswerCard
from mbsearch.config.budgets import Budget
from mbsearch.dashboard import parts
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.view import query
from mbsearch.study.records import UNTRIED, TrialRecord


def sentence_parts(found: Answer | str) -> list[Component]:
    """Return the sentence of an answer, one element for each part and its punctuation.

    The text of all elements is the sentence. The style shows parts as lines without punctuation.
    """
    if isinstance(found, str):
        return [html.H2(found, className="network"), _mark(".")]
    shown: list[Component] = []
    for each in found.text().segments():
        tag = html.H2 if each.kind == "network" else html.Span
        shown += [_mark(each.mark), tag(each.text, className=each.kind, title=each.detail)]
    return [*shown, _mark(".")]


def beside_sentence(card: AnswerCard, fields: Fields) -> list[Component]:
    """Return badges, buttons and commands of an answer, and a row for each budget."""
    badges = [html.Span(each.text, className="badge", title=each.detail) for each in card.badges]
    shown: list[Component] = [html.Div(badges, className="badges")] if badges else []
    if isinstance(card.found, Answer):
        shown.append(html.Div(_actions(card.found.record, card, fields), className="actions"))
    if len(card.rows) > 1 or (card.rows and card.rows[0][0] != card.budget):
        shown.append(html.Div(_rows(card, fields), className="budgets"))
    return shown


def _actions(record: TrialRecord, card: AnswerCard, fields: Fields) -> list[Component]:
    yaml = base64.b64encode(record.architecture.to_yaml().encode()).decode()
    actions: list[Component] = [
        html.A(
            "Download",
            href=f"data:text/yaml;base64,{yaml}",
            download=f"{record.slug}.yaml",
            className="button",
        )
    ]
    if record.trial != UNTRIED:
        address = f"network{query({**fields, 'trial': record.trial})}"
        actions.insert(0, dcc.Link("Open", href=address, className="button first"))
    if (command := card.retrain_command) is not None:
        actions += [
            dmc.Code(command, id="retrain-command", className="command", tabIndex=0),
            dcc.Clipboard(
                target_id="retrain-command",
                title="Copy the command that retrains this network",
                className="copy",
            ),
        ]
    return actions


def _rows(card: AnswerCard, fields: Fields) -> Any:
    rows = [
        [dcc.Link(row[0], href=f"{query({**fields, **_bounds(budget)})}"), *row[1:]]
        for budget, row in card.rows
    ]
    return parts.table(card.head, rows, text_columns=2)


def _bounds(budget: Budget) -> dict[str, int]:
    return {f"max_{metric}": bound for metric, bound in budget.bounds().items()}


def _mark(text: str) -> html.Span:
    return html.Span(text, className="mark")
