"""Where a network errs: confusions, recalls, the split that they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbsearch.analysis.class_errors import ClassErrors
from mbsearch.dashboard.errors_panel import errors_panel
from mbsearch.dashboard.studies import Snapshot
from mbsearch.figures.errors import confusion_figure, error_rows, recall_figure
from mbsearch.space.size import Size
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.opening import read_study
from mbsearch.study.records import Predictions, TrialRecord
from mbsearch.study.retrained_file import Retrained


def predictions(labels: list[int], predicted: list[int]) -> Predictions:
    return Predictions(np.array(labels, np.uint16), np.array(predicted, np.uint16))


FIRST = predictions([0, 0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1, 0])
SECOND = predictions([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 1, 0])


def test_confusions_are_means_over_seeds() -> None:
    errors = ClassErrors.of([FIRST, SECOND], names=("cat", "dog", "owl"))
    assert errors.matrix.sum() == 7
    assert errors.matrix[0].tolist() == [2.5, 1.5, 0]
    worst, second = errors.confusions()
    assert (worst.true, worst.predicted, worst.images) == ("cat", "dog", 1.5)
    assert (second.true, second.predicted, second.images) == ("owl", "cat", 1.0)
    assert [each.name for each in errors.recalls()] == ["owl", "cat", "dog"]


def test_a_recall_has_an_interval_within_0_and_1() -> None:
    for each in ClassErrors.of([FIRST]).recalls():
        assert 0 <= each.low <= each.recall <= each.high <= 1
        assert each.high - each.low > 0.2, "a class of few images is uncertain"


def test_a_reference_on_other_images_is_not_compared() -> None:
    other = predictions([0, 0, 1], [0, 1, 1])
    assert ClassErrors.of([FIRST], [other]).reference is None
    errors = ClassErrors.of([FIRST], [SECOND])
    assert errors.reference is not None
    assert error_rows(errors)[0] == ["class 0", "class 1", "2", "1"]


@pytest.mark.parametrize(("classes", "shown"), [(10, 10), (100, 30)])
def test_figures_show_the_classes_of_lowest_recall(classes: int, shown: int) -> None:
    labels = list(range(classes)) * 4
    predicted = [(c + 1) % classes if i % 4 == c % 3 else c for i, c in enumerate(labels)]
    errors = ClassErrors.of([predictions(labels, predicted)])
    assert len(confusion_figure(errors).data[0].z) == shown
    (recalls,) = recall_figure(errors, None).data
    assert list(recalls.x) == sorted(recalls.x)
    assert len(recalls.x) == shown


def test_the_test_split_is_shown_only_after_retraining(studies: Path) -> None:
    candidate, reference = pair(studies)
    assert (
        errors_panel(Snapshot("a", "a", studies, records=(candidate, reference)), candidate) is None
    )
    records = tuple(with_final(r, p) for r, p in ((candidate, FIRST), (reference, SECOND)))
    snapshot = Snapshot("a", "a", studies, records=records)
    text = str(errors_panel(snapshot, records[0]))
    assert "7 images of the validation split, 1 seed" in text
    assert reference.label in text
    retrained = Retrained(
        candidate.label, "search", candidate.fingerprint, 0.5, Size.square(96), {}, None,
        (0, 1), (0.6, 0.7), Size.square(24), 1.0, predictions=(FIRST, SECOND),
    )  # fmt: skip
    measured = replace(snapshot, measured=Artifacts(retrained=(retrained,)))
    text = str(errors_panel(measured, records[0]))
    assert "7 images of the test split, the mean of 2 seeds" in text


def pair(studies: Path) -> tuple[TrialRecord, TrialRecord]:
    records = read_study(studies / "first").records()
    candidate = next(r for r in records if not r.is_baseline)
    return candidate, next(r for r in records if r.is_baseline)


def with_final(record: TrialRecord, kept: Predictions) -> TrialRecord:
    assert record.evaluation is not None
    return replace(record, finals=(replace(record.evaluation, predictions=kept),))
