"""The accuracy as int8 stands in tables, pages and report, and can be the front's axis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from answer_records import network, reference
from shown_text import html_text, page_text
from test_int8_loss import finalist

from mbsearch.analysis.findings import Findings
from mbsearch.analysis.tables import front_rows
from mbsearch.cli.status import print_status
from mbsearch.dashboard.pages import front, search
from mbsearch.dashboard.pages.network import training
from mbsearch.dashboard.studies import Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.comparison import compared_facts, comparison_rows
from mbsearch.figures.style import INT8_TITLE
from mbsearch.report.html import document
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.records import TrialRecord

COSTS = {"peak_activation_bytes": 10**6}


def records() -> list[TrialRecord]:
    found = [
        finalist(network(1, 0.80, 10_000_000), 0.90, lost=40),
        finalist(network(2, 0.85, 20_000_000), 0.95, lost=0),
        finalist(reference(3, 0.70, 12_000_000), 0.85, lost=None),
    ]
    return [replace(r, costs={**r.costs, **COSTS}) for r in found]


def snapshot(*shown: TrialRecord) -> Snapshot:
    return Snapshot("tiny", "results/tiny", Path(), 0, shown, {}, Artifacts())


def test_tables_of_the_front_have_the_int8_accuracy_with_its_difference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown, text = records(), "0.860 (-4.0 points, significant)"
    page = html_text(document(Findings(shown), "title"))
    print_status("results/tiny", Findings(shown), (), Artifacts())
    printed = capsys.readouterr().out
    table = page_text(
        front._front_table(snapshot(*shown), View(metric="mult_adds"), "no answer", {})
    )
    for place in (page, printed, table):
        assert text in place
        assert "as int8" in place.lower()
    assert [row["int8_accuracy"] for row in front_rows(shown)] == [0.86, 0.95]
    assert [row["final_accuracy"] for row in front_rows(shown)] == [0.9, 0.95]
    assert [row["int8"] for row in search._rows(snapshot(*shown))] == [0.86, 0.95, None]
    assert training(shown[0])["accuracy as int8"] == text
    facts = compared_facts(shown, Artifacts())
    rows = {row[0]: row[1:] for row in comparison_rows(facts, equal=True)}
    assert rows["validation accuracy as int8"] == [
        text,
        "0.950 (+0.0 points)",
        "+9.0 points",
        "1.10 x",
        "none",
        "",
        "",
    ]


def test_nothing_of_int8_is_shown_without_an_int8_accuracy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = [replace(r, finals=()) for r in records()]
    print_status("results/tiny", Findings(plain), (), Artifacts())
    table = page_text(
        front._front_table(snapshot(*plain), View(metric="mult_adds"), "no answer", {})
    )
    assert "int8_accuracy" not in front_rows(plain)[0], "of an earlier study nothing changes"
    for place in (capsys.readouterr().out, table, html_text(document(Findings(plain), "title"))):
        assert "as int8" not in place.lower()
    asked = front._view({"metric": "mult_adds", "accuracy": "int8"}, snapshot(*plain))
    assert asked.accuracy == "float32"


def test_the_accuracy_axis_as_int8_has_the_validated_networks_only() -> None:
    study = snapshot(*records())
    view = front._view({"metric": "mult_adds", "accuracy": "int8"}, study)
    figure = front._figure(study, view, "no answer")
    drawn = {
        point[0]: accuracy
        for trace in figure.data
        if trace.customdata is not None
        for point, accuracy in zip(trace.customdata, trace.y, strict=True)
    }
    assert drawn == pytest.approx({1: 0.86, 2: 0.95})
    assert figure.layout.yaxis.title.text == INT8_TITLE
    assert "Not validated as int8 and left out: 1 of 3 networks." in front.caption(study, view)
    usual = front._figure(study, front._view({}, study), "no answer")
    assert usual.layout.yaxis.title.text != INT8_TITLE
