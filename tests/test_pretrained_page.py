"""The documentation of pretrained searches has the numbers of the stored cells."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the scripts of the benchmarks importable."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def pretrained() -> ModuleType:
    return importlib.import_module("pretrained")


def test_the_page_is_that_of_the_stored_cells(pretrained: ModuleType) -> None:
    cells = pretrained.read_cells(pretrained.ROWS)
    assert pretrained.PAGE.read_text(encoding="utf-8") == pretrained.markdown(cells)


def test_the_result_on_photos_has_the_accuracies_and_margins_of_the_cells(
    pretrained: ModuleType,
) -> None:
    page = (ROOT / "docs" / "pretrained.md").read_text(encoding="utf-8")
    for cell in pretrained.read_cells(pretrained.ROWS):
        donor = cell.margins.get(cell.weights)
        margin = "the answer; "
        if donor is not None:
            values = [f"{100 * donor[key]:+.1f}" for key in ("difference", "low", "high")]
            margin = "{} ({} to {}), ".format(*values).replace("-", "\N{MINUS SIGN}")
        row = f"{cell.answer}: {cell.accuracy:.3f} | {margin}"
        assert row in page


def test_the_table_of_inherited_weights_is_that_of_the_stored_rows() -> None:
    inheritance = importlib.import_module("inheritance")
    page = (ROOT / "docs" / "experiments" / "inheritance.md").read_text(encoding="utf-8")
    assert inheritance.table(inheritance.read_rows(inheritance.ROWS)) in page
