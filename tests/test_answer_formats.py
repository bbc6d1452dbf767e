"""Formats of an answer's folder: LiteRT's int8 files where it is installed and a board has room."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mbsearch.export import answer_folder

if TYPE_CHECKING:
    from mbsearch.study.records import TrialRecord

pytest.importorskip("ai_edge_litert")


def test_int8_files_of_litert_are_written_for_what_fits_a_board(
    study: tuple[Path, list[TrialRecord]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (record, *_) = study
    assert answer_folder._formats(record) == (*answer_folder.FORMATS, "litert-int8", "c-array")
    monkeypatch.setattr(answer_folder, "_LARGEST_FLASH", 1000)
    assert answer_folder._formats(record) == (*answer_folder.FORMATS, "litert-int8")


def test_a_line_says_how_to_get_them_where_litert_is_missing(
    study: tuple[Path, list[TrialRecord]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, (record, *_) = study
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert answer_folder._formats(record) == answer_folder.FORMATS
    assert "pip install 'mbsearch[litert-int8]'" in caplog.text
