"""The answer's card as HTML: sentence, badges, commands, all budgets."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_card import AnswerCard
from mbsearch.study.records import UNTRIED


def card_html(card: AnswerCard, networks: Sequence[int] = ()) -> str:
    """Return the card; `networks` are the trials with a section ``network-N`` in the document."""
    shown = [f'<div class="sentence">{_sentence(card.found)}</div>']
    if card.badges:
        badges = (
            f'<span class="badge" title="{escape(each.detail)}">{escape(each.text)}</span>'
            for each in card.badges
        )
        shown.append(f'<div class="badges">{"".join(badges)}</div>')
    if isinstance(card.found, Answer):
        record = card.found.record
        actions = [download_link(f"{record.slug}.yaml", record.architecture.to_yaml())]
        if record.trial != UNTRIED and record.trial in networks:
            actions.insert(0, f'<a class="button first" href="#network-{record.trial}">Open</a>')
        if (command := card.retrain_command) is not None:
            actions.append(f'<code tabindex="0">{escape(command)}</code>{_COPY}')
        shown.append(f'<div class="actions">{"".join(actions)}</div>')
    if len(card.rows) > 1:
        rows = [[escape(cell) for cell in row] for _, row in card.rows]
        shown.append(f'<div class="budgets">{html_table(card.head, rows)}</div>')
    return f'<section class="answer" aria-label="Answer">{"".join(shown)}</section>'


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table; its cells are HTML and are not escaped."""
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    titles = "".join(f"<th>{cell}</th>" for cell in head)
    table = f"<table><thead><tr>{titles}</tr></thead><tbody>{cells}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def download_link(name: str, text: str) -> str:
    """Return a link that saves a text as a file."""
    data = base64.b64encode(text.encode()).decode()
    return (
        f'<a class="button" download="{escape(name)}" href="data:text/plain;base64,{data}">'
        f"Download {escape(name)}</a>"
    )


_COPY = (
    '<button class="button" onclick="navigator.clipboard.writeText('
    "this.previousElementSibling.textContent); this.textContent = 'Copied'\">Copy</button>"
)


def _sentence(found: Answer | str) -> str:
    if isinstance(found, str):
        return f'<h2 class="network">{escape(found)}</h2>{_mark(".")}'
    shown = []
    for each in found.text().segments():
        tag = "h2" if each.kind == "network" else "span"
        title = f' title="{escape(each.detail)}"' if each.detail else ""
        shown.append(
            f'{_mark(each.mark)}<{tag} class="{each.kind}"{title}>{escape(each.text)}</{tag}>'
        )
    return "".join(shown) + _mark(".")


def _mark(text: str) -> str:
    return f'<span class="mark">{text}</span>'
