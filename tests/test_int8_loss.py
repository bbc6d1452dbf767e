"""What an answer says of its network's accuracy as int8."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from answer_records import IMAGES, evaluation, network, reference

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_card import answer_card
from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.int8_loss import int8_difference, int8_text, is_loss
from mbsearch.config.budgets import Budget
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.records import Int8Evaluation, Predictions, TrialRecord

BUDGET = Budget(mult_adds=20_000_000)


def as_int8(predictions: Predictions, *, lost: int, gained: int = 0) -> Int8Evaluation:
    """Other predictions, wrong on `lost` more images and right on `gained` others."""
    changed, correct = predictions.predicted.copy(), predictions.correct
    changed[np.flatnonzero(correct)[:lost]] = 1
    changed[np.flatnonzero(~correct)[:gained]] = 0
    return Int8Evaluation(Predictions(predictions.labels, changed), 2.0)


def finalist(
    record: TrialRecord, accuracy: float, lost: int | None, gained: int = 0
) -> TrialRecord:
    final = evaluation(accuracy, kept=True)
    assert final.predictions is not None
    if lost is not None:
        final = replace(final, int8=as_int8(final.predictions, lost=lost, gained=gained))
    return replace(record, finals=(final,))


def answered(lost: int | None, gained: int = 0) -> tuple[Findings, Answer]:
    records = [
        finalist(network(1, 0.8, 10_000_000), 0.9, lost, gained),
        finalist(reference(2, 0.7, 12_000_000), 0.8, lost=0),
    ]
    findings = Findings(records, budgets=(BUDGET,))
    return findings, answer(findings, BUDGET)


def test_the_answer_warns_of_a_significant_int8_loss_only() -> None:
    _, large = answered(40)
    assert large.int8 is not None
    assert large.int8.mean == pytest.approx(-0.04)
    assert "; int8 loses 4.0 points on validation images (95 % interval -5." in large.sentence()
    assert large.to_dict()["int8"]["accuracy"] == pytest.approx(0.86)
    for lost, gained in ((12, 8), (0, 0), (0, 40)):
        _, found = answered(lost, gained)
        assert "int8" not in found.sentence()
    _, unknown = answered(None)
    assert unknown.int8 is None
    assert unknown.to_dict()["int8"] is None
    assert "int8" not in unknown.sentence()


def test_the_loss_is_paired_by_image() -> None:
    """Unpaired, a difference of 2 points on 1,000 images would not be significant."""
    record = finalist(network(1, 0.8, 10_000_000), 0.9, lost=20)
    difference = int8_difference(record)
    assert difference is not None
    assert is_loss(difference)
    assert difference.images == IMAGES
    assert difference.high - difference.low < 0.02
    assert int8_text(record) == "0.880 (-2.0 points, significant)"
    assert int8_text(network(1, 0.8, 10_000_000)) == ""


def test_the_badge_has_the_int8_accuracy_with_its_difference() -> None:
    for lost, gained, text in (
        (40, 0, "int8: validation accuracy 0.860 (-4.0 points, significant)"),
        (12, 8, "int8: validation accuracy 0.896 (-0.4 points)"),
    ):
        findings, _ = answered(lost, gained)
        card = answer_card(findings, (), Artifacts(), "results/tiny")
        assert card is not None
        assert text in [badge.text for badge in card.badges]
