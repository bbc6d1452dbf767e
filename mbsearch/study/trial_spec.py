"""The specification of a trial: network, fidelity, seed and purpose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mbsearch.space.architecture import Architecture
from mbsearch.study.records import DEFAULT_METRIC, SEARCH, Fidelity


class TrialKind(StrEnum):
    """The purpose of a trial.

    The repeats train a network again with another seed, which measures the noise of the accuracy.
    """

    SEARCH = "search"
    BASELINE = "baseline"
    REPEAT = "repeat"
    PROMOTION = "promotion"
    PROMOTION_REPEAT = "promotion repeat"
    FINAL = "final"

    @property
    def fidelity(self) -> Fidelity:
        """Fidelity of the trial's training."""
        return _FIDELITIES.get(self, Fidelity.SCREENING)

    @property
    def is_repeat(self) -> bool:
        """Whether the trial only measures noise, with another seed."""
        return self in (TrialKind.REPEAT, TrialKind.PROMOTION_REPEAT)


_FIDELITIES = {
    TrialKind.PROMOTION: Fidelity.PROMOTION,
    TrialKind.PROMOTION_REPEAT: Fidelity.PROMOTION,
    TrialKind.FINAL: Fidelity.FINAL,
}


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """Everything that determines a trial before it is trained.

    `trial` is the number of the network in the study: a promotion and a final have the number of
    the screening before them. `origin` is ``search``, or the family of a reference. `fingerprint`
    is the architecture's, stored because it takes longer to compute than to read. `params` are the
    space's choices, empty for a reference. `metric` is the cost objective, a key of `costs`.
    `epochs` is the length of the training where it is not the recipe's. `budget` is the label of
    the budget for which a final is trained.
    """

    kind: TrialKind
    trial: int
    origin: str
    architecture: Architecture
    fingerprint: str
    costs: Mapping[str, int]
    params: Mapping[str, Any]
    seed: int
    metric: str = DEFAULT_METRIC
    epochs: int | None = None
    budget: str | None = None

    @property
    def fidelity(self) -> Fidelity:
        """Fidelity of the trial's training."""
        return self.kind.fidelity

    @property
    def cost(self) -> int:
        """The network's cost in the study's `metric`."""
        return self.costs[self.metric]

    def objectives(self, accuracy: float) -> list[float]:
        """Return the objectives: accuracy (to maximise) and log10 cost (to minimise)."""
        return [accuracy, math.log10(self.cost)]

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain data for storage."""
        data = {
            "trial": self.trial,
            "origin": self.origin,
            "architecture": self.architecture.to_dict(),
            "fingerprint": self.fingerprint,
            "costs": dict(self.costs),
            "metric": self.metric,
            "params": dict(self.params),
            "seed": self.seed,
            "repeat": self.kind.is_repeat,
            "fidelity": str(self.fidelity),
        }
        optional = {"epochs": self.epochs, "budget": self.budget}
        return data | {key: value for key, value in optional.items() if value is not None}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TrialSpec:
        """Return the specification from stored data, including data of older versions."""
        return TrialSpec(
            kind=_kind(data),
            trial=data["trial"],
            origin=data["origin"],
            architecture=Architecture.model_validate(data["architecture"]),
            fingerprint=data["fingerprint"],
            costs=data["costs"],
            params=data["params"],
            seed=data["seed"],
            metric=data.get("metric", DEFAULT_METRIC),
            epochs=data.get("epochs"),
            budget=data.get("budget"),
        )


def _kind(data: Mapping[str, Any]) -> TrialKind:
    """Return the kind of a stored trial, including trials of older versions."""
    older = Fidelity.PROMOTION if data.get("promoted") else Fidelity.SCREENING
    repeat = data.get("repeat", False)
    match Fidelity(data.get("fidelity", older)):
        case Fidelity.FINAL:
            return TrialKind.FINAL
        case Fidelity.PROMOTION:
            return TrialKind.PROMOTION_REPEAT if repeat else TrialKind.PROMOTION
        case Fidelity.SCREENING if repeat:
            return TrialKind.REPEAT
        case Fidelity.SCREENING:
            return TrialKind.SEARCH if data["origin"] == SEARCH else TrialKind.BASELINE
