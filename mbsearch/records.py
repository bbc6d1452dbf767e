"""What is known of a network after its trial: the only thing that search, page and export share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from mbsearch.analysis.calibration import MOST
from mbsearch.space.architecture import Architecture

BASELINE_FAMILIES = ("mobilenet_v1", "mobilenet_v2")
SEARCH = "search"
DEFAULT_METRIC = "mult_adds"


class State(StrEnum):
    """How far a trial has come."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


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
    libraries that matter.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for storage."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Evaluation:
        """Inverse of `to_dict`."""
        curve = tuple(Epoch(**epoch) for epoch in data["curve"])
        return Evaluation(**{**data, "curve": curve})


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
    empty for a baseline. `accuracy_noise` is the standard deviation of one evaluation's accuracy
    over seeds, None where it has not been measured yet. `metric` is the cost that the study weighs
    accuracy against, a key of `costs`. `promotion` is the outcome of the longer training, for a
    network that was promoted to it, and `promotion_noise` the noise of that. `expected` is the
    accuracy that a model of all trials predicts for the network after the longest training of the
    study, and `expected_deviation` its standard deviation; None where no run has ended with one.
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
