"""Records of trials for which the expected answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mbsearch.config.families import scaled_reference
from mbsearch.space.architecture import Architecture, Head, Stem
from mbsearch.space.blocks import InvertedResidual
from mbsearch.space.size import Size
from mbsearch.study.records import Evaluation, Predictions, State, TrialRecord

IMAGES = 1000


def evaluation(
    accuracy: float, seed: int = 0, *, pixels: int = 24, kept: bool = False
) -> Evaluation:
    """Return an evaluation with this accuracy, with predictions if `kept`.

    The predictions of all networks are wrong on the same hard images first.
    """
    predictions = None
    if kept:
        labels = np.zeros(IMAGES, np.uint16)
        hard = np.random.default_rng(7).permutation(IMAGES)
        wrong = np.zeros(IMAGES, np.uint16)
        wrong[hard[: round((1 - accuracy) * IMAGES)]] = 1
        predictions = Predictions(labels, wrong)
    recipe = {"validation_images": IMAGES}
    return Evaluation(
        accuracy,
        1.0,
        1.0,
        seed,
        Size.square(pixels),
        (),
        "fake",
        recipe,
        "cpu",
        predictions=predictions,
    )


def network(trial: int, accuracy: float, mult_adds: int, **fields: object) -> TrialRecord:
    """Return the record of a searched network."""
    architecture = Architecture(
        resolution=Size.square(96),
        num_classes=10,
        stem=Stem(channels=8),
        stages=(InvertedResidual(block="inverted_residual", channels=8, expansion=2),),
        head=Head(channels=16 + 8 * trial),
    )
    costs = {"mult_adds": mult_adds, "params": mult_adds // 100}
    record = TrialRecord(
        trial, "search", State.COMPLETE, architecture, costs, {}, evaluation(accuracy), 0.005
    )
    return replace(record, **fields)  # type: ignore[arg-type]


def reference(
    trial: int,
    accuracy: float,
    mult_adds: int,
    alpha: float = 0.35,
    resolution: int = 96,
    family: str = "mobilenet_v2",
) -> TrialRecord:
    """Return the record of a reference."""
    architecture = scaled_reference(family, alpha, resolution, 10)
    record = network(trial, accuracy, mult_adds)
    return replace(record, origin=family, architecture=architecture)
