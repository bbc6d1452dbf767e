"""Mean accuracies of a study's networks over their seeds, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mbsearch.analysis.repeated_trainings import USUAL_IMAGES, Trainings, pooled_seed_deviation_of
from mbsearch.study.records import Epoch, TrialRecord, complete

if TYPE_CHECKING:
    import pandas as pd


def seed_frame(
    records: Sequence[TrialRecord], repeats: Mapping[str, Sequence[Sequence[Epoch]]]
) -> pd.DataFrame:
    """Return one row a network: mean accuracy of its screenings with the 95 % interval, and costs.

    `repeats` has the learning curves of networks with several seeds, by fingerprint. The column
    `accuracies` lists the accuracy of each seed.
    """
    import pandas as pd

    rows = [(record, _trainings(record, repeats)) for record in complete(list(records))]
    deviation = pooled_seed_deviation_of([each for _, each in rows])
    return pd.DataFrame([_row(record, each, deviation) for record, each in rows])


def _trainings(record: TrialRecord, repeats: Mapping[str, Sequence[Sequence[Epoch]]]) -> Trainings:
    evaluation = record.evaluation
    assert evaluation is not None
    curves = repeats.get(record.fingerprint, [evaluation.curve])
    accuracies = [curve[-1].validation_accuracy for curve in curves]
    return Trainings(accuracies, [], evaluation.pixels, evaluation.images or USUAL_IMAGES)


def _row(record: TrialRecord, trainings: Trainings, deviation: float) -> dict[str, Any]:
    accuracy = trainings.accuracy(deviation)
    return {
        "trial": record.trial,
        "origin": record.origin,
        "seeds": len(trainings.accuracies),
        "accuracy": accuracy.mean,
        "low": accuracy.low,
        "high": accuracy.high,
        "accuracies": " ".join(f"{each:.6g}" for each in trainings.accuracies),
        "images": trainings.images,
        "pixels": trainings.pixels,
        **record.costs,
        "alpha": record.architecture.alpha,
        "resolution": record.architecture.resolution,
        "fingerprint": record.fingerprint,
        **{f"choice {name}": value for name, value in record.params.items()},
    }
