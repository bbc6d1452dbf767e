from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mbsearch.dashboard import app as app_module
from mbsearch.dashboard import pages as package
from mbsearch.dashboard.app import create_app
from mbsearch.dashboard.studies import Library, ResultsFolder

PAGE = """
from dash import html

TITLE, ADDRESS, ORDER, NEEDS = "Toy", "toy", 99, "nothing"


def layout(snapshot, fields, library):
    return html.Div("a toy page")


def redraw_key(snapshot, fields):
    return None


def register(app, library):
    app.registered = True
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules are pages, as if they were in mbsearch/dashboard/pages/."""
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    package.pages.cache_clear()
    yield tmp_path
    package.pages.cache_clear()


def test_a_page_is_one_module(folder: Path) -> None:
    (folder / "toy.py").write_text(PAGE)
    library = Library(ResultsFolder(folder))
    assert create_app(library).registered
    header = app_module._header("toy", {}, library.snapshot(None), [])
    assert "href='toy" in str(header)
    assert list(package.pages())[-1] == "toy"


def test_a_module_that_is_not_a_page_is_an_error(folder: Path) -> None:
    (folder / "broken.py").write_text("TITLE = 'Broken'\n")
    with pytest.raises(TypeError, match=r"pages\.broken: expected the members of Page"):
        package.pages()


def test_addresses_of_pages_are_stable() -> None:
    """They are in bookmarks."""
    addresses = ["front", "network", "compare", "search", "choices", "published", "studies"]
    assert list(package.pages()) == addresses
