"""Accuracies of one network over several seeds, and differences between networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from mbsearch.analysis.intervals import Interval, independent_difference
from mbsearch.analysis.paired_comparison import ImageScores, compare, seed_deviation_of
from mbsearch.config.scores import Score
from mbsearch.space.size import Size
from mbsearch.study.class_scores import effective_images, image_scores
from mbsearch.study.noise import measured_interval, pooled_seed_deviation, standard_error
from mbsearch.study.records import Evaluation, Predictions
from mbsearch.study.retrained_file import Retrained

USUAL_IMAGES = 1000
"""Number of images that an accuracy was measured on, if an old study does not have it."""


@dataclass(frozen=True)
class Trainings:
    """Trainings of one network, one per seed; predictions are kept only if all have them.

    `accuracies` are values of `score`.
    """

    accuracies: Sequence[float]
    predictions: Sequence[Predictions]
    pixels: Size
    images: int
    score: Score = Score.ACCURACY

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @cached_property
    def image_scores(self) -> list[ImageScores]:
        """The value of each image, whose mean is the score; one array per seed."""
        return [image_scores(self.score, each) for each in self.predictions]

    @cached_property
    def effective_images(self) -> int:
        """Number of images with which an accuracy would have the variance of the score."""
        if self.score is Score.ACCURACY or not self.predictions:
            return self.images
        return round(fmean(effective_images(self.score, each) for each in self.predictions))

    def deviation(self, seed_deviation: float) -> float:
        """Return the standard error of the mean; `seed_deviation` is on the logit scale."""
        over_seeds = seed_deviation / math.sqrt(len(self.accuracies))
        return standard_error(self.mean, self.effective_images, over_seeds)

    def accuracy(self, seed_deviation: float) -> Interval:
        """Mean accuracy with its interval over images and seeds."""
        deviation = self.deviation(seed_deviation)
        bounds = measured_interval(self.mean, self.effective_images, deviation)
        return Interval(self.mean, *bounds, self.images)

    def margin(self, other: Trainings, seed_deviation: float) -> Interval:
        """Return the mean accuracy minus that of another network, paired by images if possible."""
        if self.predictions and other.predictions and self.images == other.images:
            effective = min(self.effective_images, other.effective_images)
            own = self.image_scores
            return compare(own, other.image_scores, seed_deviation, effective=effective)
        deviations = self.deviation(seed_deviation), other.deviation(seed_deviation)
        images = min(self.images, other.images)
        return independent_difference(self.mean - other.mean, *deviations, images)


def pooled_seed_deviation_of(networks: Sequence[Trainings]) -> float:
    """Return the standard deviation over seeds (logit scale), pooled over networks."""
    kept = [each.image_scores for each in networks if each.predictions]
    if kept:
        return seed_deviation_of(kept)
    images = min(each.effective_images for each in networks)
    return pooled_seed_deviation([each.accuracies for each in networks], images)


def trainings_of_finals(finals: Sequence[Evaluation], score: Score = Score.ACCURACY) -> Trainings:
    """Return a network's finals as trainings; there must be at least one."""
    kept = [e.predictions for e in finals if e.predictions is not None]
    predictions = kept if len(kept) == len(finals) else []
    images = len(predictions[0].labels) if predictions else finals[-1].images or USUAL_IMAGES
    accuracies = [e.accuracy for e in finals]
    return Trainings(accuracies, predictions, finals[-1].pixels, images, score)


def trainings_of_retrained(row: Retrained) -> Trainings:
    """Return a retrained network's trainings."""
    images = len(row.predictions[0].labels) if row.predictions else row.images
    images = images or USUAL_IMAGES
    return Trainings(row.accuracies, row.predictions, row.pixels, images, row.score)
