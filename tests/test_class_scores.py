"""Balanced accuracy and macro F1 have the values of scikit-learn and the noise of simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from mbsearch.analysis.paired_comparison import compare
from mbsearch.config.scores import Score
from mbsearch.study.class_scores import effective_images, image_scores, score_of
from mbsearch.study.noise import standard_error
from mbsearch.study.records import Predictions

CLASSES = st.lists(st.integers(0, 4), min_size=2, max_size=60)
SIZES = np.array([950, 50])


def predictions(labels: object, predicted: object) -> Predictions:
    return Predictions(np.asarray(labels, np.uint16), np.asarray(predicted, np.uint16))


def drawn(recalls: list[float], seed: int, sizes: np.ndarray = SIZES) -> Predictions:
    """Predictions in two classes with these probabilities of being right."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    right = rng.random(len(labels)) < np.asarray(recalls)[labels]
    return predictions(labels, np.where(right, labels, 1 - labels))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_values_are_those_of_scikit_learn(data: st.DataObject) -> None:
    labels = data.draw(CLASSES)
    predicted = data.draw(st.lists(st.integers(0, 4), min_size=len(labels), max_size=len(labels)))
    assume(set(predicted) <= set(labels) and len(set(labels)) > 1)  # else scikit-learn warns
    found = predictions(labels, predicted)
    expected = {
        Score.ACCURACY: np.mean(np.array(labels) == predicted),
        Score.BALANCED: balanced_accuracy_score(labels, predicted),
        Score.F1: f1_score(labels, predicted, average="macro", zero_division=0),
    }
    for score, value in expected.items():
        assert score_of(score, found) == pytest.approx(value)
        assert image_scores(score, found).mean() == pytest.approx(value)
        assert effective_images(score, found) >= 1


@pytest.mark.parametrize("score", [Score.BALANCED, Score.F1])
@pytest.mark.parametrize("recalls", [[0.97, 0.6], [0.8, 0.8], [0.99, 0.1]])
def test_the_standard_error_is_the_deviation_over_drawn_images(
    score: Score, recalls: list[float]
) -> None:
    found = [drawn(recalls, seed) for seed in range(400)]
    values = [score_of(score, each) for each in found]
    error = np.mean(
        [
            standard_error(score_of(score, each), effective_images(score, each), 0.0)
            for each in found[:100]
        ]
    )
    assert error == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("score", [Score.BALANCED, Score.F1])
def test_a_paired_interval_covers_the_difference(score: Score) -> None:
    sizes, rng = np.array([300, 60]), np.random.default_rng(0)
    labels = np.repeat([0, 1], sizes)
    many = np.repeat([0, 1], sizes * 1000)

    def pair(true: np.ndarray) -> tuple[Predictions, Predictions]:
        """Two networks that are wrong on the same hard images, the second one more often."""
        hard = rng.random(len(true))
        first, second = hard < np.array([0.95, 0.7])[true], hard < np.array([0.93, 0.6])[true]
        first ^= rng.random(len(true)) < 0.05
        one, other = (np.where(right, true, 1 - true) for right in (first, second))
        return predictions(true, one), predictions(true, other)

    one, other = pair(many)
    truth = score_of(score, one) - score_of(score, other)
    covered, widths = 0, []
    for _ in range(120):
        a, b = pair(labels)
        values = [image_scores(score, each) for each in (a, b)]
        effective = min(effective_images(score, each) for each in (a, b))
        found = compare([values[0]], [values[1]], 0.0, effective=effective)
        covered += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert covered >= 0.88 * 120
    assert np.mean(widths) < 0.4


@pytest.mark.parametrize("score", [Score.BALANCED, Score.F1])
def test_few_images_of_a_class_are_not_certain_however_many_the_others(score: Score) -> None:
    perfect = predictions([0] * 995 + [1] * 5, [0] * 995 + [1] * 5)
    assert effective_images(score, perfect) < 40
    equal = predictions([0, 1] * 500, [0, 1] * 500)
    assert effective_images(score, equal) == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("score", list(Score))
@pytest.mark.parametrize(("sizes", "classes"), [((95, 5), 2), ((60, 30, 10), 3)])
def test_always_the_largest_class(score: Score, sizes: tuple[int, ...], classes: int) -> None:
    labels = np.repeat(np.arange(classes), sizes)
    found = predictions(labels, np.zeros_like(labels))
    share = sizes[0] / sum(sizes)
    assert score.of_largest_class(share, classes) == pytest.approx(score_of(score, found))


def test_accuracy_is_computed_as_before() -> None:
    found = drawn([0.9, 0.3], 0)
    assert image_scores(Score.ACCURACY, found).dtype == np.bool_
    assert effective_images(Score.ACCURACY, found) == 1000
