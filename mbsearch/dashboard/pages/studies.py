"""Overview of all studies, one card each, and the terms of the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_selection import answers
from mbsearch.config.proxy_settings import data_title
from mbsearch.dashboard import parts
from mbsearch.dashboard.glossary import TERMS
from mbsearch.dashboard.live_run import progress_text
from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot
from mbsearch.dashboard.view import query
from mbsearch.errors import StorageError
from mbsearch.study.identity import IDENTITY
from mbsearch.study.notes_file import read_notes
from mbsearch.study.progress_file import RunProgress
from mbsearch.study.records import State as TrialState
from mbsearch.study.records import complete

TITLE, ADDRESS, ORDER = "Studies", "studies", 7
NEEDS = "nothing"


@dataclass(frozen=True, slots=True)
class StudyCard:
    """What a card says about a study."""

    name: str
    state: str
    data: str = ""
    budget: str = ""
    best: str = ""
    updated: str = ""
    pinned: tuple[str, ...] = ()


def layout(_snapshot: Snapshot, _fields: Fields, library: Library) -> Component:
    """Return the whole page."""
    found = _cards(library)
    terms = [[term, text] for term, text in TERMS.items()]
    return html.Div(
        [
            dmc.Title("Studies", order=1, size="h3", mb="md"),
            dcc.Store(id="studies-drawn", data=_key(found)),
            html.Div(_grid(found), id="studies-cards"),
            parts.panel("Terms", parts.table(("Term", "Meaning"), terms, long=True), mt="lg"),
        ]
    )


def redraw_key(_snapshot: Snapshot, _fields: Fields) -> Any:
    """Return None: a callback updates the cards."""
    return None


def register(app: Dash, library: Library) -> None:
    """Register the callback that updates the cards while studies are loaded or running."""

    @app.callback(
        Output("studies-cards", "children"),
        Output("studies-drawn", "data"),
        Input("tick", "n_intervals"),
        State("studies-drawn", "data"),
        prevent_initial_call=True,
    )
    def follow(_tick: int, drawn: list[str]) -> Any:
        found = _cards(library)
        now = _key(found)
        return (no_update, no_update) if now == drawn else (_grid(found), now)


def study_card(snapshot: Snapshot) -> StudyCard:
    """Return the card of a study: data, budget, best network, last update, state, pins."""
    if snapshot.loading:
        return StudyCard(snapshot.name, "being read")
    if snapshot.problem is not None:
        return StudyCard(snapshot.name, f"cannot be shown: {snapshot.problem}")
    ended = [r.ended for r in snapshot.records if r.ended is not None]
    identity = snapshot.settings.get(IDENTITY) or {}
    budget = snapshot.questions[0].label if snapshot.questions else ""
    return StudyCard(
        snapshot.name,
        _state(snapshot),
        data_title(identity.get("data", "")),
        budget,
        _best(snapshot),
        "" if not ended else f"{max(ended):%Y-%m-%d %H:%M}",
        _pinned(snapshot),
    )


def _state(snapshot: Snapshot) -> str:
    progress = RunProgress.read(snapshot.folder)
    if progress is not None:
        return progress_text(progress)
    records = snapshot.records
    counts = {
        state: sum(r.state is state for r in records)
        for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.RUNNING)
    }
    text = ", ".join(f"{count:,} {state.word}" for state, count in counts.items() if count)
    return text or "no trial yet"


def _best(snapshot: Snapshot) -> str:
    """Return the network that answers the first budget, with its accuracy."""
    if not complete(list(snapshot.records)):
        return ""
    for found in answers(snapshot.findings, snapshot.questions[:1]).values():
        if isinstance(found, Answer):
            return f"{found.name}, {found.accuracy_text()}"
    return ""


def _pinned(snapshot: Snapshot) -> tuple[str, ...]:
    try:
        notes = read_notes(snapshot.folder)
    except StorageError as error:
        return (str(error),)
    return tuple(
        r.label + (f": {notes[r.fingerprint].text}" if notes[r.fingerprint].text else "")
        for r in snapshot.records
        if r.fingerprint in notes and notes[r.fingerprint].pinned
    )


def _cards(library: Library) -> list[StudyCard]:
    return [study_card(library.snapshot(name, patience=0.0)) for name in library.names()]


def _key(cards: list[StudyCard]) -> list[str]:
    return [repr(card) for card in cards]


def _grid(cards: list[StudyCard]) -> Component:
    return dmc.SimpleGrid([_drawn(card) for card in cards], cols={"base": 1, "sm": 2, "md": 3})


def _drawn(card: StudyCard) -> Component:
    facts = (
        ("Data", card.data),
        ("Budget", card.budget),
        ("Best", card.best),
        ("Last update", card.updated),
        ("State", card.state),
        ("Pinned", "; ".join(card.pinned)),
    )
    return dmc.Paper(
        [
            dcc.Link(card.name, href=f"./{query({'study': card.name})}", className="study-name"),
            html.Dl(
                [
                    html.Div([html.Dt(name), html.Dd(text)], className="fact")
                    for name, text in facts
                    if text
                ]
            ),
        ],
        withBorder=True,
        radius="md",
        p="md",
        className="study-card",
    )
