"""What a study has seen so far, by what a sampler may do with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mbsearch.analysis.calibration import Calibration, denoised, grown
from mbsearch.search.catalog import Catalog, KnownNetworks, Network

PARTIAL_ACCURACY = "partial_accuracy"
"""User attribute of a PRUNED trial: the accuracy it would have reached, as far as can be told."""

EVALUATION = "evaluation"
"""User attribute of a finished trial: a mapping whose `validation_loss` steadies its accuracy."""

ABANDONED = "abandoned"
"""User attribute of a FAILED trial whose network was never tried, and may be half written."""

PROMOTED = "promoted"
"""User attribute of a study: accuracies after a longer training, by the number of the trial."""


FINALS = "finals"
"""User attribute of a study: accuracies after a final training, by the number of the trial."""

ANCHORS = "anchors"
"""User attribute of a study: networks of known accuracy that are none of its trials."""


@dataclass(frozen=True, slots=True)
class History:
    """Trials with an accuracy (the first three, in step), those running, and all networks tried.

    Where trials were promoted, all accuracies are on the scale of the longer training. They have
    gained what the networks are believed to gain after it.
    """

    trials: list[FrozenTrial]
    measured: list[Network]
    accuracies: NDArray[np.float64]
    pending: list[Network]
    known: KnownNetworks

    @property
    def seen(self) -> list[Network]:
        """Networks with an accuracy, then those that will have one."""
        return [*self.measured, *self.pending]


def read_history(
    study: Study, catalog: Catalog, suggested: Mapping[int, Network], skip: int | None
) -> History:
    """History of a study in the order of trial numbers, without trial `skip`.

    Trials that wait, that have not asked for a parameter yet, that have a value outside the search
    space, or that were abandoned are left out. A trial that failed was tried: its network is not
    run again. While the parameters of a running trial are still being written, `suggested` (by
    number) says them.
    """
    trials, measured, accuracies, pending, networks = [], [], [], [], []
    for trial in sorted(study.get_trials(deepcopy=False), key=lambda t: t.number):
        if trial.number == skip or trial.state == TrialState.WAITING:
            continue
        if ABANDONED in trial.user_attrs:
            continue
        network = catalog.network_of(trial.params)
        running = trial.state == TrialState.RUNNING
        if running and (network is None or network.key is None):
            network = suggested.get(trial.number, network)
        if network is None:
            continue
        networks.append(network)
        accuracy = _accuracy(trial)
        if math.isfinite(accuracy):
            trials.append(trial)
            measured.append(network)
            accuracies.append(accuracy)
        elif running:
            pending.append(network)
    accuracies = _denoised(trials, accuracies)
    raised = _raised(trials, accuracies, study.user_attrs.get(PROMOTED, {}))
    ends = [
        grown(accuracy, network.growth) if network.growth else accuracy
        for accuracy, network in zip(raised, measured, strict=True)
    ]
    return History(trials, measured, np.array(ends), pending, KnownNetworks(networks))


def _denoised(trials: Sequence[FrozenTrial], accuracies: Sequence[float]) -> list[float]:
    """Accuracies, those of finished trials denoised by their validation losses.

    Of a trial that was stopped early the loss is not that of its accuracy, which is a forecast.
    """
    losses = {i: loss for i, trial in enumerate(trials) if math.isfinite(loss := _loss(trial))}
    values = denoised([accuracies[i] for i in losses], list(losses.values()))
    found = dict(enumerate(accuracies)) | dict(zip(losses, values, strict=True))
    return list(found.values())


def _loss(trial: FrozenTrial) -> float:
    """Validation loss of a finished trial; NaN where it is not known."""
    evaluation = trial.user_attrs.get(EVALUATION)
    if trial.state != TrialState.COMPLETE or not isinstance(evaluation, Mapping):
        return math.nan
    loss = evaluation.get("validation_loss")
    return float(loss) if isinstance(loss, int | float) else math.nan


def _raised(
    trials: Sequence[FrozenTrial], accuracies: Sequence[float], promoted: Mapping[str, float]
) -> Sequence[float]:
    """Accuracies at the highest fidelity there is: measured, or what the others let expect.

    One scale for all, so that the model learns from short and from longer trainings alike.
    """
    after = [promoted.get(str(trial.number)) for trial in trials]
    pairs = [(a, b) for a, b in zip(accuracies, after, strict=True) if b is not None]
    calibration = Calibration.between([a for a, _ in pairs], [b for _, b in pairs])
    if calibration is None:
        return accuracies
    return [calibration.of(a) if b is None else b for a, b in zip(accuracies, after, strict=True)]


def _accuracy(trial: FrozenTrial) -> float:
    """First objective of a finished trial, the estimate of a pruned one, else NaN."""
    match trial.state:
        case TrialState.COMPLETE:
            return float(trial.values[0])
        case TrialState.PRUNED:
            estimate = trial.user_attrs.get(PARTIAL_ACCURACY)
            return float(estimate) if isinstance(estimate, int | float) else math.nan
        case _:
            return math.nan
