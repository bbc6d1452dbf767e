"""What is known of a network after its trial: the only thing that search, page and export share."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbsearch.config.families import family_name
from mbsearch.space.architecture import Architecture
from mbsearch.study.log_odds import MOST

SEARCH = "search"
DEFAULT_METRIC = "mult_adds"
TABLE = "table"
"""The evaluator of accuracies that are looked up, and have no noise."""
UNTRIED = -1
"""Number of a network that the search has not trained."""


class State(StrEnum):
    """How far a trial has come."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class StartKind(StrEnum):
    """Which weights a training begins with.

    Those of a donor as it is are `DONOR` for the donor's own networks, else `INHERITED`; a
    supernet's come from a donor too.
    """

    FRESH = "fresh"
    DONOR = "donor"
    INHERITED = "inherited"
    SUPERNET = "supernet"

    @property
    def phrase(self) -> str:
        """How a sentence says it."""
        return _PHRASES[self]


_PHRASES = {
    StartKind.FRESH: "from scratch",
    StartKind.DONOR: "fine-tuned",
    StartKind.INHERITED: "inherited",
    StartKind.SUPERNET: "inherited",
}


@dataclass(frozen=True, slots=True)
class Start:
    """The weights that a training begins with, and the share of a network's weights they are."""

    kind: StartKind
    share: float


class Fidelity(StrEnum):
    """How a network was trained, from the shortest training to the longest."""

    SCREENING = "screening"
    PROMOTION = "promotion"
    FINAL = "finals"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Classes of the images of a split, and the classes that a network predicts, in one order."""

    labels: NDArray[np.uint16]
    predicted: NDArray[np.uint16]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly."""
        return np.asarray(self.labels == self.predicted)

    def to_dict(self) -> dict[str, str]:
        """Plain data, for storage."""
        return {"labels": _packed(self.labels), "predicted": _packed(self.predicted)}

    @staticmethod
    def from_dict(data: Mapping[str, str]) -> Predictions:
        """Inverse of `to_dict`."""
        return Predictions(_unpacked(data["labels"]), _unpacked(data["predicted"]))


def _packed(classes: NDArray[np.uint16]) -> str:
    return b64encode(zlib.compress(classes.astype("<u2").tobytes(), 9)).decode()


def _unpacked(text: str) -> NDArray[np.uint16]:
    return np.frombuffer(zlib.decompress(b64decode(text)), "<u2").astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a learning curve; losses are mean cross-entropies in nats, time in seconds."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Outcome of training one network: its score, and all that is needed to train it again.

    `accuracy` is the fraction of validation images classified rightly; the test split is never
    seen. `pixels` is the side of the images trained on. `seconds` is the time of training and
    validation in the worker. `recipe` is the proxy as plain data, `versions` those of the
    libraries that matter. `images` is the number of images that scored it, None in older studies.
    `predictions` are those of the validation images, kept of finals. `start` is None where every
    network of the study starts fresh.
    """

    accuracy: float
    validation_loss: float
    seconds: float
    seed: int
    pixels: int
    curve: tuple[Epoch, ...]
    evaluator: str
    recipe: Mapping[str, Any]
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)
    images: int | None = None
    start: Start | None = None
    # Not compared: arrays have no truth value.
    predictions: Predictions | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for storage."""
        data = asdict(replace(self, predictions=None))
        if self.predictions is None:
            del data["predictions"]
            return data
        return data | {"predictions": self.predictions.to_dict()}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Evaluation:
        """Inverse of `to_dict`."""
        curve = tuple(Epoch(**epoch) for epoch in data["curve"])
        kept, begun = data.get("predictions"), data.get("start")
        predictions = None if kept is None else Predictions.from_dict(kept)
        start = None if begun is None else Start(StartKind(begun["kind"]), begun["share"])
        return Evaluation(**{**data, "curve": curve, "predictions": predictions, "start": start})


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted accuracy with its standard deviation, both without the noise of a training."""

    accuracy: float
    deviation: float


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of a study: a search trial, or a baseline trained by the same proxy.

    `trial` counts search trials and baselines together and is unique in the study. `origin` is
    ``search`` or the name of the reference (``mobilenet_v2``). `params` are the space's choices;
    empty for a baseline. `accuracy_noise` is the standard error of the accuracy, over seeds and
    validation images; None where no network of the study was trained with several seeds yet.
    `metric` is the cost that the study weighs accuracy against, a key of `costs`. `promotion` is
    the outcome of the longer training, for a network that was promoted to it, and `promotion_noise`
    the noise of that. `finals` are the completed trainings by the full recipe, one a seed.
    `expected` is the accuracy that a model of all trials predicts for the network after the longest
    training of the study, and `expected_deviation` its standard deviation; None where no run has
    ended with one.
    """

    trial: int
    origin: str
    state: State
    architecture: Architecture
    costs: Mapping[str, int]
    params: Mapping[str, Any]
    evaluation: Evaluation | None = None
    accuracy_noise: float | None = None
    metric: str = DEFAULT_METRIC
    promotion: Evaluation | None = None
    promotion_noise: float | None = None
    finals: tuple[Evaluation, ...] = ()
    expected: float | None = None
    expected_deviation: float | None = None
    error: str | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def fingerprint(self) -> str:
        """Identity of the network."""
        return self.architecture.fingerprint

    @property
    def label(self) -> str:
        """Name of the network in text: ``trial 43``, or ``MobileNetV2 0.35/128``.

        A reference is named by its family, width multiplier and resolution.
        """
        if not self.is_baseline:
            return f"trial {self.trial}"
        return (
            f"{family_name(self.origin)} {self.architecture.alpha:g}/{self.architecture.resolution}"
        )

    @property
    def start(self) -> Start | None:
        """The weights that its longest training began with.

        None before a training has ended, and where every network of the study starts fresh.
        """
        longest = self.finals[0] if self.finals else self.highest.evaluation
        return None if longest is None else longest.start

    @property
    def described(self) -> str:
        """The label, of a reference with its start: ``EfficientNet-Lite0 0.5/72 fine-tuned``."""
        if self.start is None or not self.is_baseline:
            return self.label
        return f"{self.label} {self.start.kind.phrase}"

    @property
    def slug(self) -> str:
        """Name of the network in file names: ``trial-43``, or ``mobilenet_v2-0.35-128``."""
        if not self.is_baseline:
            return f"trial-{self.trial}"
        return f"{self.origin}-{self.architecture.alpha:g}-{self.architecture.resolution}"

    @property
    def is_baseline(self) -> bool:
        """Whether the trial is a reference network rather than a candidate of the space."""
        return self.origin != SEARCH

    @property
    def accuracy(self) -> float:
        """Validation accuracy of a trial that has one.

        Raises:
            ValueError: the trial was not evaluated.
        """
        if self.evaluation is None:
            raise ValueError(f"trial {self.trial} is {self.state} and has no accuracy")
        return self.evaluation.accuracy

    @property
    def likely(self) -> float:
        """Accuracy used for selection: the prediction if there is one, else the measured accuracy.

        Both are clipped as by `logit`, so that a measured 1 does not win over every prediction.

        Raises:
            ValueError: the trial was not evaluated.
        """
        return min(self.accuracy, MOST) if self.expected is None else self.expected

    @property
    def highest(self) -> TrialRecord:
        """The record with the accuracy of its longest training.

        It bears the noise of that.
        """
        if self.promotion is None:
            return self
        return replace(self, evaluation=self.promotion, accuracy_noise=self.likely_noise)

    @property
    def likely_noise(self) -> float | None:
        """The noise of what a choice goes by: that of the longer training, where it is known."""
        return self.accuracy_noise if self.promotion_noise is None else self.promotion_noise

    @property
    def mult_adds(self) -> int:
        """Multiply-accumulates for one image at the candidate's own resolution."""
        return self.costs["mult_adds"]

    @property
    def cost(self) -> int:
        """The cost that the study weighs accuracy against."""
        return self.costs[self.metric]


def metric_of(records: Sequence[TrialRecord]) -> str:
    """The cost that a study weighs accuracy against, by its records."""
    return next((r.metric for r in records), DEFAULT_METRIC)


def complete(records: list[TrialRecord]) -> list[TrialRecord]:
    """The records that finished their training, in their order."""
    return [r for r in records if r.state is State.COMPLETE and r.evaluation is not None]


def shown(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records that a study is judged by: those of the highest fidelity that it has.

    Where networks were promoted, these alone, with the accuracy of their longer training; else all
    that finished the proxy's.
    """
    promoted = [r.highest for r in records if r.promotion is not None]
    return promoted or complete(list(records))
