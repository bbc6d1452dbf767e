"""``retrain.json``: test accuracies of networks retrained by `mbsearch retrain`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import stdev
from typing import Any

from mbsearch.config.scores import Score
from mbsearch.cost import METRICS
from mbsearch.errors import StorageError
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.json_files import read_json
from mbsearch.study.records import Int8Evaluation, Predictions

RETRAINED = "retrain.json"
TABLE = "retrain.csv"


@dataclass(frozen=True, slots=True)
class Retrained:
    """A retrained network, with its test accuracies for each seed.

    `family` is ``search``, ``given``, or a reference's name. `compared_with` is the candidate that
    a reference is compared with. `proxy_accuracy` is None if the search did not train the network.
    `score` is what the accuracies are, `images` the number of test images. `predictions` has those
    of each seed if they were kept. `margins` compares a candidate with each of its references, in
    words. `int8` has the evaluation as int8 of each seed that was fine-tuned for it.
    """

    name: str
    family: str
    fingerprint: str
    alpha: float
    resolution: Size
    costs: Mapping[str, int]
    proxy_accuracy: float | None
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    pixels: Size
    seconds: float
    compared_with: str | None = None
    architecture: Architecture | None = None
    images: int | None = None
    predictions: tuple[Predictions, ...] = field(default=(), compare=False)
    margins: tuple[str, ...] = ()
    score: Score = Score.ACCURACY
    int8: Mapping[int, Int8Evaluation] = field(default_factory=dict, compare=False)

    @property
    def candidate(self) -> str:
        """Name of the candidate that a reference is compared with, or the network's own name."""
        return self.compared_with or self.name

    @property
    def accuracy(self) -> float:
        """Mean test accuracy over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the test accuracy over seeds; None with one seed."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def int8_accuracy(self) -> float | None:
        """Mean test accuracy as int8 over the seeds that were fine-tuned; None without any."""
        if not self.int8:
            return None
        return sum(each.accuracy for each in self.int8.values()) / len(self.int8)

    def with_seeds_of(self, earlier: Retrained) -> Retrained:
        """Return a copy that adds the trainings of an earlier retraining with other seeds."""
        trainings = earlier._by_seed() | self._by_seed()
        seeds = sorted(trainings)
        kept = [predictions for _, predictions in (trainings[seed] for seed in seeds)]
        added = (len(seeds) - len(self.seeds)) / len(earlier.seeds)
        return replace(
            self,
            seeds=tuple(seeds),
            accuracies=tuple(trainings[seed][0] for seed in seeds),
            seconds=self.seconds + added * earlier.seconds,
            predictions=() if None in kept else tuple(p for p in kept if p is not None),
            int8={**earlier.int8, **self.int8},
        )

    def with_trainings_of(self, other: Retrained) -> Retrained:
        """Return a copy with the trainings from another row of the same network."""
        return replace(
            self,
            seeds=other.seeds,
            accuracies=other.accuracies,
            predictions=other.predictions,
            int8=other.int8,
            seconds=other.seconds,
        )

    def _by_seed(self) -> dict[int, tuple[float, Predictions | None]]:
        kept = self.predictions or (None,) * len(self.seeds)
        return dict(zip(self.seeds, zip(self.accuracies, kept, strict=True), strict=True))

    def to_row(self) -> dict[str, Any]:
        """Return one flat row, without architecture and predictions."""
        return {
            "name": self.name,
            "family": self.family,
            "rival_of": self.compared_with,
            "fingerprint": self.fingerprint,
            "alpha": self.alpha,
            "resolution": self.resolution.plain,
            **self.costs,
            "proxy_accuracy": self.proxy_accuracy,
            "test_accuracy": self.accuracy,
            "score": str(self.score),
            "spread": self.spread,
            "int8_accuracy": self.int8_accuracy,
            "accuracies": list(self.accuracies),
            "seeds": list(self.seeds),
            "pixels": self.pixels.plain,
            "seconds": self.seconds,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the network as plain data."""
        network = None if self.architecture is None else self.architecture.to_dict()
        kept = [predictions.to_dict() for predictions in self.predictions]
        int8 = {str(seed): each.to_dict() for seed, each in self.int8.items()}
        return self.to_row() | {"architecture": network, "predictions": kept, "int8": int8}

    @staticmethod
    def from_dict(
        row: Mapping[str, Any], images: int | None = None, margins: Sequence[str] = ()
    ) -> Retrained:
        """Return the network from plain data; older rows lack architecture and predictions."""
        proxy, network = row["proxy_accuracy"], row.get("architecture")
        kept = row.get("predictions", ())
        if not len(row["seeds"]) == len(row["accuracies"]) >= 1 or len(kept) not in (
            0,
            len(row["seeds"]),
        ):
            raise ValueError("seeds")
        return Retrained(
            name=str(row["name"]),
            family=str(row["family"]),
            fingerprint=str(row["fingerprint"]),
            alpha=float(row["alpha"]),
            resolution=Size.parse(row["resolution"]),
            costs={metric: int(row[metric]) for metric in METRICS if metric in row},
            proxy_accuracy=None if proxy is None else float(proxy),
            seeds=tuple(map(int, row["seeds"])),
            accuracies=tuple(map(float, row["accuracies"])),
            pixels=Size.parse(row["pixels"]),
            seconds=float(row["seconds"]),
            compared_with=row["rival_of"],
            architecture=None if network is None else Architecture.model_validate(network),
            images=images,
            predictions=tuple(map(Predictions.from_dict, kept)),
            margins=tuple(margins),
            score=Score(row.get("score", Score.ACCURACY)),
            int8={
                int(seed): Int8Evaluation.from_dict(each)
                for seed, each in row.get("int8", {}).items()
            },
        )


@dataclass(frozen=True, slots=True)
class RetrainedMargin:
    """Mean test accuracy of a candidate minus a reference's, with its 95 % interval."""

    candidate: str
    reference: str
    difference: float
    low: float
    high: float
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return the margin as plain data for the file."""
        return {
            "candidate": self.candidate,
            "rival": self.reference,
            "difference": self.difference,
            "lower": self.low,
            "upper": self.high,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class RetrainedFile:
    """The retrained networks of a study, and the settings of their training.

    `settings` are the recipe and the images of the trainings. ``settings["folder"]`` is the name of
    the folder of this recipe.
    """

    settings: Mapping[str, Any]
    networks: tuple[Retrained, ...]

    def write(self, folder: Path, margins: Sequence[RetrainedMargin]) -> None:
        """Write ``retrain.json`` and ``retrain.csv`` into a study's folder.

        Raises:
            StorageError: they cannot be written.
        """
        import pandas as pd

        data = {
            "settings": dict(self.settings),
            "networks": [each.to_dict() for each in self.networks],
            "leads": [margin.to_dict() for margin in margins],
        }
        write_atomically(folder / RETRAINED, json.dumps(data, indent=2) + "\n")
        table = pd.DataFrame([each.to_row() for each in self.networks])
        write_atomically(folder / TABLE, table.to_csv(index=False))

    @staticmethod
    def read(folder: Path) -> RetrainedFile | None:
        """Read ``retrain.json`` in a study's folder; None if it does not exist.

        Raises:
            StorageError: the file is damaged.
        """
        return read_json(folder / RETRAINED, "retrain", RetrainedFile._decoded)

    @staticmethod
    def _decoded(data: Any) -> RetrainedFile:
        settings = data["settings"]
        sentences = [(row["candidate"], str(row["sentence"])) for row in data["leads"]]
        networks = (
            Retrained.from_dict(
                row,
                settings.get("test_images"),
                [sentence for candidate, sentence in sentences if candidate == row["name"]],
            )
            for row in data["networks"]
        )
        return RetrainedFile(settings, tuple(networks))


def read_retrained(folder: Path) -> tuple[Retrained, ...]:
    """Return the retrained networks in a study's folder; none if there is no file.

    Raises:
        StorageError: the file is damaged.
    """
    found = RetrainedFile.read(folder)
    return () if found is None else found.networks


def retrained_by(folder: Path, settings: Mapping[str, Any]) -> tuple[Retrained, ...]:
    """Return networks that were retrained with `settings`; none if the file is damaged."""
    try:
        found = RetrainedFile.read(folder)
    except StorageError:
        return ()
    same = found is not None and found.settings == json.loads(json.dumps(dict(settings)))
    return found.networks if found is not None and same else ()


def merged(
    earlier: Sequence[Retrained], results: Sequence[Retrained]
) -> tuple[tuple[Retrained, ...], list[Retrained]]:
    """Merge results with those of an earlier retraining with the same settings.

    Equal networks get the seeds of both.

    Returns:
        All networks, and the results with their seeds.
    """
    trained = {each.fingerprint: each for each in reversed(earlier)}
    results = [
        r.with_seeds_of(trained[r.fingerprint]) if r.fingerprint in trained else r for r in results
    ]
    fresh = {each.fingerprint: each for each in results}
    candidates = {each.candidate for each in results}
    kept = [
        each.with_trainings_of(fresh[each.fingerprint]) if each.fingerprint in fresh else each
        for each in earlier
        if each.candidate not in candidates
    ]
    return (*kept, *results), results
