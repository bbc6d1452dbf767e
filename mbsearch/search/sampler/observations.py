"""Read a study's observations: networks with accuracies on one scale, and those without."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mbsearch.analysis.calibration import Array, GainModel, denoised
from mbsearch.search.sampler.candidates import Candidates, KnownNetworks, Network
from mbsearch.study.log_odds import logit

PARTIAL_ACCURACY = "partial_accuracy"
"""User attribute of a PRUNED trial: its predicted final accuracy."""

EVALUATION = "evaluation"
"""User attribute of a completed trial: a mapping whose `validation_loss` denoises its accuracy."""

ABANDONED = "abandoned"
"""User attribute of a FAILED trial whose parameters may be incomplete: it bans no network."""

PROMOTED = "promoted"
"""User attribute of a study: accuracies after a longer training, by the number of the trial."""

FINALS = "finals"
"""User attribute of a study: accuracies after the final training, by the number of the trial."""

ANCHORS = "anchors"
"""User attribute of a study: networks with accuracies that are not among its trials.

A list of mappings with `params` and `accuracy`, and, each a number or None, `validation_loss`,
`promoted` (accuracy after the longer training) and `final` (after the final training).
"""


@dataclass(frozen=True, slots=True)
class History:
    """Networks of a study: those with an accuracy, the running ones, and all that were tried.

    The first four lists correspond: the trial (None for an anchor), its network, its accuracy, and
    the standard deviation of the calibration from a shorter training. All accuracies are on the
    scale of the longest training of the study. Before the first final, they include the networks'
    `growth`.
    """

    trials: list[FrozenTrial | None]
    measured: list[Network]
    accuracies: Array
    deviations: Array
    pending: list[Network]
    known: KnownNetworks
    has_final: frozenset[int]
    """Indices of measured networks with a final training."""

    @property
    def seen(self) -> list[Network]:
        """Networks with an accuracy, followed by the running ones."""
        return [*self.measured, *self.pending]


@dataclass(frozen=True, slots=True)
class _Observation:
    """A network and its accuracy after screening, promotion and final; NaN if missing."""

    trial: FrozenTrial | None
    network: Network
    accuracy: float
    loss: float = math.nan
    promoted: float = math.nan
    final: float = math.nan


def read_history(
    study: Study, candidates: Candidates, suggested: Mapping[int, Network], skip: int | None
) -> History:
    """Read a study's anchors and trials, without the trial `skip`.

    Trials are left out that wait, have no parameter yet, have a value outside the search space, or
    are marked as abandoned, and so are anchors outside the search space. The network of a failed
    trial counts as tried. While the parameters of a running trial are still being written,
    `suggested` (by number) provides its network.
    """
    found = _anchors(study, candidates)
    networks, pending = [each.network for each in found], []
    attributes = study.user_attrs
    promoted, finals = attributes.get(PROMOTED, {}), attributes.get(FINALS, {})
    for trial in sorted(study.get_trials(deepcopy=False), key=lambda t: t.number):
        if trial.number == skip or trial.state == TrialState.WAITING:
            continue
        if ABANDONED in trial.user_attrs:
            continue
        network = candidates.network_of(trial.params)
        running = trial.state == TrialState.RUNNING
        if running and (network is None or network.key is None):
            network = suggested.get(trial.number, network)
        if network is None:
            continue
        networks.append(network)
        accuracy = _accuracy(trial)
        if math.isfinite(accuracy):
            longer, final = promoted.get(str(trial.number)), finals.get(str(trial.number))
            loss = _loss(trial)
            found.append(
                _Observation(trial, network, accuracy, loss, _number(longer), _number(final))
            )
        elif running:
            pending.append(network)
    accuracies, deviations = _on_one_scale(found)
    return History(
        [each.trial for each in found],
        [each.network for each in found],
        accuracies,
        deviations,
        pending,
        KnownNetworks(networks),
        frozenset(i for i, each in enumerate(found) if math.isfinite(each.final)),
    )


def _anchors(study: Study, candidates: Candidates) -> list[_Observation]:
    found = []
    for each in study.user_attrs.get(ANCHORS, []):
        network = candidates.network_of(each["params"])
        if network is not None:
            numbers = [_number(each.get(key)) for key in ("validation_loss", "promoted", "final")]
            found.append(_Observation(None, network, float(each["accuracy"]), *numbers))
    return found


def _on_one_scale(found: Sequence[_Observation]) -> tuple[Array, Array]:
    """Return accuracies and their standard deviations, calibrated to the longest training."""
    accuracies = np.array(_denoised(found))
    deviations = np.zeros(len(found))
    if not found:
        return accuracies, deviations
    features = np.array([each.network.gain_features for each in found])
    growth = np.array([each.network.growth for each in found])
    promoted = np.array([each.promoted for each in found])
    finals = np.array([each.final for each in found])
    accuracies, deviations = _calibrated(accuracies, deviations, promoted, features)
    if growth.any():
        accuracies = _accuracies(_logits(accuracies) + growth)
    return _calibrated(accuracies, deviations, finals, features)


def _calibrated(
    accuracies: Array, deviations: Array, longer: Array, features: Array
) -> tuple[Array, Array]:
    """Replace accuracies by those after longer training: measured, or predicted by calibration.

    All are then on one scale, so that the model learns from trainings of any length. With too few
    longer trainings the accuracies are returned unchanged.
    """
    known = np.isfinite(longer)
    if not known.any():
        return accuracies, deviations
    before = _logits(accuracies)
    gain = GainModel.fit(before[known], _logits(longer[known]), features[known], features)
    if gain is None:
        return accuracies, deviations
    predicted = _accuracies(gain.predict(before, features))
    # The derivative of an accuracy in its logit is a (1 - a).
    slopes, old = predicted * (1 - predicted), np.maximum(accuracies * (1 - accuracies), 1e-3)
    spread = slopes * np.hypot(gain.slope * deviations / old, gain.deviation)
    return np.where(known, longer, predicted), np.where(known, 0.0, spread)


def _logits(accuracies: Array) -> Array:
    return np.array([logit(accuracy) for accuracy in accuracies])


def _accuracies(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _denoised(found: Sequence[_Observation]) -> list[float]:
    """Return accuracies, each averaged with a prediction from its validation loss if known.

    Pruned trials have no loss here: their accuracy is a prediction.
    """
    with_loss = [i for i, each in enumerate(found) if math.isfinite(each.loss)]
    values = denoised([found[i].accuracy for i in with_loss], [found[i].loss for i in with_loss])
    accuracies = [each.accuracy for each in found]
    for i, value in zip(with_loss, values, strict=True):
        accuracies[i] = value
    return accuracies


def _loss(trial: FrozenTrial) -> float:
    """Return the validation loss of a completed trial; NaN if it is unknown."""
    evaluation = trial.user_attrs.get(EVALUATION)
    if trial.state != TrialState.COMPLETE or not isinstance(evaluation, Mapping):
        return math.nan
    return _number(evaluation.get("validation_loss"))


def _accuracy(trial: FrozenTrial) -> float:
    """Return a completed trial's accuracy or a pruned trial's predicted accuracy; else NaN."""
    match trial.state:
        case TrialState.COMPLETE:
            return float(trial.values[0])
        case TrialState.PRUNED:
            return _number(trial.user_attrs.get(PARTIAL_ACCURACY))
        case _:
            return math.nan


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
