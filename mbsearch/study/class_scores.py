"""Compute a score from true and predicted classes, with its variance over images.

A score is a mean over images of per-image values. For accuracy these are 0 and 1. For the others
they are the score plus the influence function of each image (delta method): the mean of the values
is the score, and their variance divided by the number of images is its variance. Comparisons that
average over images therefore hold for every score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mbsearch.config.scores import Score
from mbsearch.study.records import Predictions

Array = NDArray[np.float64]


def score_of(score: Score, predictions: Predictions) -> float:
    """Return the score of a split's predictions."""
    if score is Score.ACCURACY:
        return float(predictions.correct.mean())
    return _value(score, _confusion(predictions))


def image_scores(score: Score, predictions: Predictions) -> NDArray[np.bool_] | Array:
    """Return a value for each image, whose mean is the score."""
    if score is Score.ACCURACY:
        return predictions.correct
    confusion = _confusion(predictions)
    influence = _influence(score, confusion)
    return _value(score, confusion) + influence[predictions.labels, predictions.predicted]


def effective_images(score: Score, predictions: Predictions) -> int:
    """Return the number of images for which a binomial share has the variance of the score.

    The variance is that of a confusion matrix with one image added to each class, which is right
    with the probability of the score. No score of 0 or 1 is then certain.
    """
    images = len(predictions.labels)
    if score is Score.ACCURACY:
        return images
    confusion = _confusion(predictions)
    p = (_value(score, confusion) * images + 0.5) / (images + 1)
    classes = np.flatnonzero(confusion.sum(axis=1) > 0)
    if len(classes) < 2:
        return images
    added = np.full((len(classes), len(classes)), (1 - p) / (len(classes) - 1))
    np.fill_diagonal(added, p)
    confusion[np.ix_(classes, classes)] += added
    variance = (confusion * _influence(score, confusion) ** 2).sum() / confusion.sum() ** 2
    p = _value(score, confusion)
    return max(1, round(float(p * (1 - p) / variance)))


def _confusion(predictions: Predictions) -> Array:
    """Return the numbers of images by true class (rows) and predicted class (columns)."""
    labels, predicted = (
        each.astype(np.int64) for each in (predictions.labels, predictions.predicted)
    )
    classes = int(max(labels.max(), predicted.max())) + 1
    counts = np.bincount(labels * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes).astype(np.float64)


def _value(score: Score, confusion: Array) -> float:
    """Return the mean recall or F1 score over the classes that occur."""
    known = _sizes(score, confusion) > 0
    return float(_of_classes(score, confusion)[known].mean())


def _sizes(score: Score, confusion: Array) -> Array:
    """Return the denominator of each class's score: images of the class, for F1 and predicted."""
    true, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    sizes: Array = (true + predicted) / 2 if score is Score.F1 else true
    return sizes


def _of_classes(score: Score, confusion: Array) -> Array:
    sizes, right = _sizes(score, confusion), np.diag(confusion)
    return np.divide(right, sizes, out=np.zeros_like(sizes), where=sizes > 0)


def _influence(score: Score, confusion: Array) -> Array:
    """Return the influence on the score of an image, by its true and its predicted class.

    The numbers of images of the classes are given, so that its mean over each class is 0.
    """
    sizes, of_classes = _sizes(score, confusion), _of_classes(score, confusion)
    known = sizes > 0
    weight = np.divide(confusion.sum(), known.sum() * sizes, out=np.zeros_like(sizes), where=known)
    found: Array = np.diag(weight).copy()
    if score is Score.F1:
        found -= weight * of_classes / 2  # of a prediction of this class, right or wrong
    true = confusion.sum(axis=1)
    means = np.divide(
        (confusion * found).sum(axis=1), true, out=np.zeros_like(true), where=true > 0
    )
    found -= means[:, None]
    return found
