"""Tables and pages show the accuracy of every step, and say which step it is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from answer_records import evaluation, network, reference

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.fidelity_levels import finals_accuracies
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.step_accuracies import accuracy_columns, step_accuracies
from mbsearch.config.budgets import Budget
from mbsearch.dashboard.hover_card import hover_card
from mbsearch.dashboard.pages import front, search
from mbsearch.dashboard.pages import network as network_page
from mbsearch.dashboard.studies import Library, ResultsFolder, Snapshot
from mbsearch.figures.comparison import compared_facts
from mbsearch.report.html import document
from mbsearch.study.answer_folders import Int8Accuracy
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.records import TrialRecord


def in_finals(record: TrialRecord, accuracy: float, seeds: int = 2) -> TrialRecord:
    finals = tuple(evaluation(accuracy, seed, kept=True) for seed in range(seeds))
    memory = {"flash_bytes": 300 * 2**10, "ram_bytes": 96 * 2**10, "peak_activation_bytes": 10**6}
    return replace(record, finals=finals, costs={**record.costs, **memory})


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Return a study of two networks and a reference, two of them in the finals."""
    first = in_finals(network(0, 0.71, 10**7, promotion=evaluation(0.80)), 0.905)
    second = in_finals(network(1, 0.74, 2 * 10**7, promotion=evaluation(0.82)), 0.915)
    third = replace(reference(2, 0.60, 10**7 + 1), costs={**first.costs, "mult_adds": 10**7 + 1})
    return Snapshot("a", "a", tmp_path, records=(first, second, third))


def test_steps_begin_with_the_longest_training(snapshot: Snapshot) -> None:
    steps = step_accuracies(snapshot.findings, snapshot.records[0])
    assert [(each.step, each.split) for each in steps] == [
        ("finals", "validation"),
        ("promotion", "validation"),
        ("screening", "validation"),
    ]
    assert [each.accuracy.mean for each in steps] == pytest.approx([0.905, 0.80, 0.71], abs=0.003)
    answered = answer(snapshot.findings, Budget(mult_adds=10**7))
    only = replace(snapshot, records=(snapshot.records[0], snapshot.records[2]))
    (alone, *_) = step_accuracies(only.findings, snapshot.records[0])
    assert alone.accuracy == answered.best.accuracy, "as in the answer of the same networks"
    assert str(steps[0]).startswith("0.906 (finals, 95 % interval 0.")
    assert [e.step for e in step_accuracies(snapshot.findings, snapshot.records[2])] == [
        "screening"
    ]


def test_a_running_network_has_no_step(snapshot: Snapshot) -> None:
    running = replace(snapshot.records[2], evaluation=None)
    assert step_accuracies(Findings([running]), running) == []


def test_a_table_has_a_column_of_finals_only_if_there_are_some(snapshot: Snapshot) -> None:
    head, cells = accuracy_columns(snapshot.findings, snapshot.records[:2])
    assert head == ["Accuracy, promotion", "Accuracy, finals"]
    assert cells[0][1].startswith("0.906 (0.")
    head, cells = accuracy_columns(snapshot.findings, snapshot.records[2:])
    assert (head, cells) == (["Accuracy, screening"], [["0.600 ± 0.005"]])


def test_every_page_and_the_report_show_finals_flash_and_ram(snapshot: Snapshot) -> None:
    library = Library(ResultsFolder(snapshot.folder))
    record = snapshot.records[0]
    shown = str(network_page.layout(snapshot, {"trial": "0"}, library))
    assert "Accuracy 0.906 (finals" in shown
    assert "0.710 (screening" in shown
    view = front._view({}, snapshot)
    table = str(front._front_table(snapshot, view, front.card(snapshot, view).found, {}))
    assert "the answer" in table
    report = document(snapshot.findings, "a")
    for text in ("Accuracy, finals", "0.906 (0.", "Flash", "300 KiB", "RAM", "96 KiB"):
        assert text in table
        assert text in report
    (row,) = search._rows(snapshot, {0})
    assert (row["accuracy"], row["promotion"], round(row["finals"], 3)) == (0.71, 0.80, 0.906)
    assert (row["flash"], row["ram"]) == (300 * 2**10, 96 * 2**10)
    finals = finals_accuracies(snapshot.findings)
    card = str(hover_card(record, snapshot.records, finals[0]))
    assert "accuracy 0.906, finals" in card
    assert "300 KiB of flash, 96 KiB of RAM" in card


def test_columns_without_a_value_are_hidden() -> None:
    assert search._hidden([network(0, 0.7, 10**7)]) == ["promotion", "finals", "flash", "ram"]


def test_networks_are_compared_in_finals_and_as_int8_files(snapshot: Snapshot) -> None:
    first, second, _ = snapshot.records
    finals = finals_accuracies(snapshot.findings)
    int8 = {
        first.fingerprint: Int8Accuracy(0.90, "validation", ""),
        second.fingerprint: Int8Accuracy(0.91, "validation", ""),
    }
    facts = {f.name: f for f in compared_facts(snapshot.records, Artifacts(int8=int8), finals)}
    assert [text[:6] for text in facts["accuracy, finals"].texts] == ["0.906 ", "0.914 ", "none"]
    assert facts["accuracy, finals"].difference(1) == "+0.8 points"
    assert facts["accuracy, finals"].difference(2) == ""
    assert facts["accuracy, int8 file"].texts[0] == "0.900 (validation images)"
    assert facts["accuracy, int8 file"].difference(1) == "+1.0 points"
    other = {**int8, second.fingerprint: Int8Accuracy(0.91, "test", "")}
    facts = {f.name: f for f in compared_facts([first, second], Artifacts(int8=other))}
    assert facts["accuracy, int8 file"].difference(1) == "", "of different images"
    assert facts["Flash for the int8 file"].texts == ("300 KiB", "300 KiB")
