"""Immutable records of trials, shared by search, analysis, dashboard and export."""

from __future__ import annotations

import math
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
from mbsearch.config.scores import Score
from mbsearch.errors import StorageError
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.log_odds import MOST
from mbsearch.study.run_clock import Moment

SEARCH = "search"
DEFAULT_METRIC = "mult_adds"
TABLE = "table"
"""The evaluator of accuracies that are looked up, and have no noise."""
UNTRIED = -1
"""Number of a network that the search has not trained."""


class State(StrEnum):
    """State of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def word(self) -> str:
        """The state in text: ``completed``, ``pruned``, ``failed`` or ``running``."""
        return "completed" if self is State.COMPLETE else str(self)


class StartKind(StrEnum):
    """Origin of the weights that a training starts from.

    `DONOR` is the donor's own network with all its weights, `INHERITED` another network with those
    weights of the donor that correspond. The weights of a `SUPERNET` come from a donor, too.
    """

    FRESH = "fresh"
    DONOR = "donor"
    INHERITED = "inherited"
    SUPERNET = "supernet"

    @property
    def phrase(self) -> str:
        """The origin of the weights as words for a sentence, such as ``fine-tuned``."""
        return _PHRASES[self]


_PHRASES = {
    StartKind.FRESH: "from scratch",
    StartKind.DONOR: "fine-tuned",
    StartKind.INHERITED: "inherited",
    StartKind.SUPERNET: "inherited",
}


@dataclass(frozen=True, slots=True)
class Start:
    """Initial weights of a training: their origin, and the share of weights that come from it."""

    kind: StartKind
    share: float


class Fidelity(StrEnum):
    """Fidelity of a training, from shortest to longest."""

    SCREENING = "screening"
    PROMOTION = "promotion"
    FINAL = "finals"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """True and predicted classes of a split's images, in the same order.

    `confidence` is the probability of the predicted class, in 255ths; None in studies of earlier
    versions.
    """

    labels: NDArray[np.uint16]
    predicted: NDArray[np.uint16]
    confidence: NDArray[np.uint8] | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly, as a boolean array."""
        return np.asarray(self.labels == self.predicted)

    def to_dict(self) -> dict[str, str]:
        """Return the predictions as plain data."""
        data = {"labels": _packed(self.labels), "predicted": _packed(self.predicted)}
        if self.confidence is None:
            return data
        return data | {"confidence": _packed(self.confidence)}

    @staticmethod
    def from_dict(data: Mapping[str, str]) -> Predictions:
        """Return the predictions from plain data."""
        kept = data.get("confidence")
        confidence = None if kept is None else _unpacked(kept).astype(np.uint8)
        return Predictions(_unpacked(data["labels"]), _unpacked(data["predicted"]), confidence)


def _packed(values: NDArray[np.uint16] | NDArray[np.uint8]) -> str:
    return b64encode(zlib.compress(values.astype("<u2").tobytes(), 9)).decode()


def _unpacked(text: str) -> NDArray[np.uint16]:
    return np.frombuffer(zlib.decompress(b64decode(text)), "<u2").astype(np.uint16)


@dataclass(frozen=True, slots=True, eq=False)
class Int8Evaluation:
    """Predictions of a network after quantisation to int8, on the images of the float32 ones.

    `seconds` is the time of quantisation, fine-tuning and evaluation. `before` and `after` are the
    validation accuracies as int8 before and after quantisation-aware fine-tuning; None without it.
    """

    predictions: Predictions
    seconds: float
    before: float | None = None
    after: float | None = None

    @property
    def accuracy(self) -> float:
        """Fraction of the images that the int8 network classifies correctly."""
        return float(self.predictions.correct.mean())

    def sentence(self) -> str:
        """Return ``0.8412 (validation 0.8320 before fine-tuning, 0.8445 after)``."""
        if self.before is None or self.after is None:
            return f"{self.accuracy:.4f}"
        tuned = f"validation {self.before:.4f} before fine-tuning, {self.after:.4f} after"
        return f"{self.accuracy:.4f} ({tuned})"

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain data."""
        return {
            "predictions": self.predictions.to_dict(),
            "seconds": self.seconds,
            "before": self.before,
            "after": self.after,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Int8Evaluation:
        """Return the evaluation from plain data."""
        return Int8Evaluation(**{**data, "predictions": Predictions.from_dict(data["predictions"])})


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a learning curve: cross-entropies in nats, accuracy, time in seconds.

    The accuracy is the score of the study (`Score`). `effective_images` is the number of validation
    images for which a binomial share has its variance; None if that is their number.
    """

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    effective_images: int | None = None


@dataclass(frozen=True, slots=True)
class DeadUnits:
    """Shares of a trained network's units that contribute nothing.

    Attributes:
        kernels: share of the depthwise kernels whose L2 norm is below 1 % of their layer's median;
            None for a network without depthwise convolutions.
        channels: share of the channels after an activation that are 0 everywhere, on a batch of
            validation images.
    """

    kernels: float | None
    channels: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of training one network, and everything needed to train it again.

    `accuracy` is the score of the study (`Score`), by default the fraction of images classified
    correctly, on validation images; the test split is not used. `pixels` is the size of the images
    trained on. `seconds` is the time of training and validation in the worker. `recipe` is the
    proxy as plain data. `versions` are those of mbsearch and torch. `images` is the number of
    validation images, None in older studies. `predictions` are kept for finals. `start` is None if
    every network of the study starts from scratch. `dead` is None before the training has
    completed, and in older studies. `int8` is the evaluation of the network as int8, None without
    one.
    """

    accuracy: float
    validation_loss: float
    seconds: float
    seed: int
    pixels: Size
    curve: tuple[Epoch, ...]
    evaluator: str
    recipe: Mapping[str, Any]
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)
    images: int | None = None
    start: Start | None = None
    dead: DeadUnits | None = None
    # Not compared: arrays have no truth value.
    predictions: Predictions | None = field(default=None, compare=False)
    int8: Int8Evaluation | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Accept `pixels` as stored, and any integer of a user's own evaluator."""
        given: object = self.pixels
        size = Size.square(given) if isinstance(given, int) else Size.parse(given)
        object.__setattr__(self, "pixels", size)

    @property
    def effective_images(self) -> int | None:
        """Number of images for which a binomial share has the variance of the accuracy."""
        if self.images is None or not self.curve:
            return self.images
        return self.curve[-1].effective_images or self.images

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain data."""
        data = asdict(replace(self, predictions=None, int8=None)) | {"pixels": self.pixels.plain}
        for name, kept in (("predictions", self.predictions), ("int8", self.int8)):
            del data[name]
            if kept is not None:
                data[name] = kept.to_dict()
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Evaluation:
        """Return the evaluation from plain data."""
        curve = tuple(Epoch(**epoch) for epoch in data["curve"])
        kept, begun, int8 = data.get("predictions"), data.get("start"), data.get("int8")
        decoded = {
            "curve": curve,
            "predictions": None if kept is None else Predictions.from_dict(kept),
            "start": None if begun is None else Start(StartKind(begun["kind"]), begun["share"]),
            "dead": None if data.get("dead") is None else DeadUnits(**data["dead"]),
            "int8": None if int8 is None else Int8Evaluation.from_dict(int8),
        }
        return Evaluation(**{**data, **decoded})


@dataclass(frozen=True, slots=True)
class Estimate:
    """A predicted accuracy and its standard deviation, without the noise of a training."""

    accuracy: float
    deviation: float


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial of a study: a searched network, or a baseline trained by the same proxy.

    `trial` counts searched networks and baselines together and is unique in the study. `origin` is
    ``search`` or the name of the reference (``mobilenet_v2``). `params` are the options chosen in
    the space, empty for a baseline. `accuracy_noise` is the standard error of the accuracy, over
    seeds and validation images. It is None if the number of validation images is unknown.
    `score` is what the accuracies of the study are, `metric` its cost objective, a key of `costs`.
    `promotion` is the result of the
    longer training of a promoted network, `promotion_noise` the standard error of its accuracy.
    `finals` are the completed trainings by the full recipe, one per seed. `predicted` is the
    accuracy that a model of all trials predicts for the longest training of the study, and
    `predicted_deviation` its standard deviation; None before a run has completed. `started` and
    `ended` are in UTC. `moment` is the end on the clock of its run; None in earlier versions.
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
    score: Score = Score.ACCURACY
    promotion: Evaluation | None = None
    promotion_noise: float | None = None
    finals: tuple[Evaluation, ...] = ()
    predicted: float | None = None
    predicted_deviation: float | None = None
    error: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    moment: Moment | None = None

    @property
    def end_order(self) -> tuple[float, float, int]:
        """Sort key for the order in which trials end; trials of earlier versions come first."""
        if self.moment is not None:
            return (self.moment.run, self.moment.seconds, self.trial)
        return (0.0, self.ended.timestamp() if self.ended else math.inf, self.trial)

    @property
    def fingerprint(self) -> str:
        """Hash that identifies the network."""
        return self.architecture.fingerprint

    @property
    def label(self) -> str:
        """The network's name in text: ``trial 43``, or ``MobileNetV2 0.35/128``.

        A reference has the name of its family with width multiplier and resolution.
        """
        if not self.is_baseline:
            return f"trial {self.trial}"
        return (
            f"{family_name(self.origin)} {self.architecture.alpha:g}/{self.architecture.resolution}"
        )

    @property
    def start(self) -> Start | None:
        """Initial weights of the longest training.

        None before a training is complete, or if all networks of the study start from scratch.
        """
        longest = self.finals[0] if self.finals else self.at_highest_fidelity.evaluation
        return None if longest is None else longest.start

    @property
    def label_with_start(self) -> str:
        """The label; for a reference also the origin of its weights, if known."""
        if self.start is None or not self.is_baseline:
            return self.label
        return f"{self.label} {self.start.kind.phrase}"

    @property
    def slug(self) -> str:
        """The network's name in file names: ``trial-43``, or ``mobilenet_v2-0.35-128``."""
        if not self.is_baseline:
            return f"trial-{self.trial}"
        return f"{self.origin}-{self.architecture.alpha:g}-{self.architecture.resolution}"

    @property
    def is_baseline(self) -> bool:
        """Whether the network is a reference and not a searched network."""
        return self.origin != SEARCH

    @property
    def accuracy(self) -> float:
        """Validation accuracy in `evaluation`.

        Raises:
            ValueError: the trial was not evaluated.
        """
        if self.evaluation is None:
            raise ValueError(f"trial {self.trial} is {self.state} and has no accuracy")
        return self.evaluation.accuracy

    @property
    def selection_accuracy(self) -> float:
        """Accuracy used for selection: the prediction, or without one the measured accuracy.

        Both are clipped as by `logit`, so that a measured 1 does not win over every prediction.

        Raises:
            ValueError: the trial was not evaluated.
        """
        return min(self.accuracy, MOST) if self.predicted is None else self.predicted

    @property
    def at_highest_fidelity(self) -> TrialRecord:
        """The record, with the evaluation of its promotion if the network was promoted."""
        if self.promotion is None:
            return self
        return replace(self, evaluation=self.promotion, accuracy_noise=self.selection_noise)

    @property
    def int8_accuracy(self) -> float | None:
        """Validation accuracy of the first final's weights as an int8 network; None if unknown."""
        int8 = self.finals[0].int8 if self.finals else None
        return None if int8 is None else int8.accuracy

    @property
    def selection_noise(self) -> float | None:
        """Standard error of the accuracy measured at the highest fidelity; None if unknown."""
        return self.accuracy_noise if self.promotion_noise is None else self.promotion_noise

    @property
    def mult_adds(self) -> int:
        """Multiply-accumulates for one image at the network's own resolution."""
        return self.costs["mult_adds"]

    @property
    def cost(self) -> int:
        """Value of the study's cost objective."""
        return self.costs[self.metric]


def metric_of(records: Sequence[TrialRecord]) -> str:
    """Return the key of the study's cost objective."""
    return next((r.metric for r in records), DEFAULT_METRIC)


def score_of_study(records: Sequence[TrialRecord]) -> Score:
    """Return what the accuracies of the study are."""
    return next((r.score for r in records), Score.ACCURACY)


def complete(records: list[TrialRecord]) -> list[TrialRecord]:
    """Return the records of completed trials, in the same order."""
    return [r for r in records if r.state is State.COMPLETE and r.evaluation is not None]


def of_highest_fidelity(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return promoted trials with their promotion's accuracy; if none, all completed trials.

    If networks were promoted, these are the promoted ones with the accuracy of their longer
    training; else all completed trials.
    """
    promoted = [r.at_highest_fidelity for r in records if r.promotion is not None]
    return promoted or complete(list(records))


def find_trial(records: Sequence[TrialRecord], trial: int) -> TrialRecord:
    """Return the record with this trial number, at its highest fidelity.

    Raises:
        StorageError: there is none.
    """
    for record in records:
        if record.trial == trial:
            return record.at_highest_fidelity
    last = max((r.trial for r in records), default=None)
    numbers = "no trials yet"
    if last is not None:
        numbers = f"0 to {last}, except repeated trainings of another trial"
    raise StorageError(f"trial {trial}: expected a trial of the study ({numbers})")
