"""Find the files of a network's trained weights in a study's folder, with their accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mbsearch.config.scores import Score
from mbsearch.space.size import Size
from mbsearch.study.class_scores import effective_images
from mbsearch.study.json_files import damaged_file
from mbsearch.study.noise import interval
from mbsearch.study.records import TrialRecord
from mbsearch.study.retrained_file import RETRAINED, RetrainedFile
from mbsearch.study.training_files import (
    INT8_WEIGHTS,
    RETRAIN_FOLDER,
    WEIGHTS,
    FinalFiles,
    training_folder,
)


@dataclass(frozen=True, slots=True)
class TrainedWeights:
    """A file of trained weights, and the network's accuracy on one split.

    `accuracy` is that of these weights, `mean` and `spread` are over `seeds` trainings. `pixels` is
    the size of the images trained on, `command` the one that trained them, `images` the number of
    images of the split, None if it is unknown. `score` is what the accuracy is, `effective_images`
    the number of images for which a binomial share has its variance. `int8` is the file of the
    weights that were fine-tuned for int8, None without it.
    """

    path: Path
    seed: int
    accuracy: float
    mean: float
    spread: float | None
    seeds: int
    pixels: Size
    recipe: Mapping[str, Any]
    split: str = "test"
    command: str = "mbsearch retrain"
    images: int | None = None
    score: Score = Score.ACCURACY
    effective_images: int | None = None
    int8: Path | None = None

    def sentence(self) -> str:
        """Return a sentence about the training and its accuracy, for a model card."""
        spread = "" if self.spread is None else f" ± {self.spread:.4f}"
        within = ""
        if self.images is not None:
            low, high = interval(self.accuracy, self.effective_images or self.images, 0.0)
            within = f"95 % interval {low:.3f} to {high:.3f} over {self.images:,} images; "
        return (
            f"trained by `{self.command}` at {self.pixels} pixels with seed {self.seed}: "
            f"{self.split} {self.score.noun} {self.accuracy:.4f} ({within}over {self.seeds} seeds "
            f"{self.mean:.4f}{spread}). The files take images of that size."
        )


def trained_weights(folder: Path, record: TrialRecord) -> TrainedWeights | None:
    """Return a network's weights from retraining, else from its finals, else None.

    Raises:
        StorageError: ``retrain.json`` is damaged.
    """
    return retrained_weights(folder, record.fingerprint) or _weights_of_finals(folder, record)


def retrained_weights(folder: Path, fingerprint: str) -> TrainedWeights | None:
    """Return a network's weights from retraining with its first seed, or None.

    Raises:
        StorageError: ``retrain.json`` is damaged.
    """
    found = RetrainedFile.read(folder)
    rows = () if found is None else found.networks
    row = next((each for each in rows if each.fingerprint == fingerprint), None)
    if found is None or row is None:
        return None
    if "folder" not in found.settings:
        raise damaged_file(folder / RETRAINED, "retrain")
    home = folder / RETRAIN_FOLDER / found.settings["folder"]
    files = training_folder(home, fingerprint, row.seeds[0])
    tuned = files / INT8_WEIGHTS
    return TrainedWeights(
        files / WEIGHTS,
        row.seeds[0],
        row.accuracies[0],
        row.accuracy,
        row.spread,
        len(row.seeds),
        row.pixels,
        found.settings,
        images=row.images,
        score=row.score,
        effective_images=effective_images(row.score, row.predictions[0])
        if row.predictions
        else None,
        int8=tuned if row.seeds[0] in row.int8 and tuned.is_file() else None,
    )


def _weights_of_finals(folder: Path, record: TrialRecord) -> TrainedWeights | None:
    if not record.finals:
        return None
    final = record.finals[0]
    path = FinalFiles(folder).weights(record.fingerprint, final.seed)
    if not path.is_file():
        return None
    accuracies = [each.accuracy for each in record.finals]
    return TrainedWeights(
        path,
        final.seed,
        final.accuracy,
        fmean(accuracies),
        stdev(accuracies) if len(accuracies) > 1 else None,
        len(accuracies),
        final.pixels,
        final.recipe,
        split="validation",
        command="mbsearch run",
        images=final.images,
        score=record.score,
        effective_images=final.effective_images,
    )
