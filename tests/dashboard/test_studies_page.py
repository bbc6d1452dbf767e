"""Overview of studies, titles, notes and explained terms."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import wait_for

from dashboard.page import Page, needs_browser
from mbsearch.dashboard.glossary import TERMS, help_mark
from mbsearch.dashboard.pages.studies import study_card
from mbsearch.dashboard.studies import Library, ResultsFolder, Snapshot
from mbsearch.errors import StorageError
from mbsearch.study.notes_file import NOTES, Note, read_notes, write_note
from mbsearch.study.opening import read_study


def test_a_card_has_data_budget_best_network_update_and_state(studies: Path) -> None:
    records = tuple(read_study(studies / "first").records())
    settings = {"stamp": {"data": "my photos"}, "budgets": [{"mult_adds": 10**9}]}
    card = study_card(Snapshot("first", "first", studies / "first", 0, records, settings))
    assert (card.data, card.budget) == ("my photos", "1,000 M Mult-Adds")
    assert ", validation accuracy 0." in card.best
    assert card.state == f"{len(records)} completed"
    assert card.updated[:2] == "20"


def test_a_study_that_cannot_be_read_has_a_card(studies: Path) -> None:
    problem = Snapshot("a", "a", studies, problem="journal.log:2: damaged")
    assert study_card(problem).state == "cannot be shown: journal.log:2: damaged"
    assert study_card(Snapshot("a", "a", studies, loading=True)).state == "being read"


def test_an_unknown_name_is_a_problem_that_lists_the_studies(studies: Path) -> None:
    snapshot = Library(ResultsFolder(studies)).snapshot("frist")
    assert snapshot.problem is not None
    assert "got 'frist'" in snapshot.problem
    assert "first" in snapshot.problem


def test_notes_are_kept_by_network_and_an_empty_one_is_removed(tmp_path: Path) -> None:
    write_note(tmp_path, "a", Note("fast on the phone", pinned=True))
    write_note(tmp_path, "b", Note("too large"))
    write_note(tmp_path, "b", Note())
    assert read_notes(tmp_path) == {"a": Note("fast on the phone", pinned=True)}
    (tmp_path / NOTES).write_text("[]")
    with pytest.raises(StorageError, match="notes"):
        read_notes(tmp_path)


@pytest.mark.parametrize("term", ["proxy", "predicted", "knee", "pruned", "hypervolume"])
def test_terms_are_explained(term: str) -> None:
    assert TERMS[term] in str(help_mark(term))


@needs_browser
def test_studies_titles_notes_and_unknown_names(page: Page) -> None:
    page.open("/studies?study=damaged", ".study-card")
    assert "No study of this name" not in page.text("main")
    page.open("/?study=frist", "#notice")
    assert "got 'frist'" in page.text("#notice")
    record = next(r for r in page.records("alone") if not r.is_baseline)
    before = (page.folder / "alone" / "journal.log").read_bytes()
    page.open(f"/network?study=alone&trial={record.trial}", "#note")
    wait_for(lambda: "alone" in page.browser.title, "the name in the title")
    assert page.browser.title.startswith(f"trial {record.trial}")
    page.wait("#note").send_keys("for the phone")
    page.js("document.querySelector('#pin').click()")
    expected = {record.fingerprint: Note("for the phone", pinned=True)}
    wait_for(lambda: read_notes(page.folder / "alone") == expected, "the note")
    assert (page.folder / "alone" / "journal.log").read_bytes() == before
    page.open("/studies?study=alone", ".study-card")
    wait_for(lambda: "for the phone" in page.text("#studies-cards"), "the pin on the card")
