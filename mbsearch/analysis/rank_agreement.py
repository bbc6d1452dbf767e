"""Rank agreement of the proxy's score and of costs with true accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mbsearch.analysis.calibration import long_training_gain
from mbsearch.analysis.kendall import kendall_tau
from mbsearch.config.proxy_settings import GROWTH
from mbsearch.study.audit_file import (
    MULT_ADDS,
    PARAMS,
    PROXY,
    WITH_COST,
    WITH_GROWTH,
    RankAgreement,
)
from mbsearch.study.log_odds import logit

_BOOTSTRAPS = 500
_CONFIDENCE = 0.9
_BUDGET_SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Judged:
    """A network of an audit: true accuracy, costs and proxy trainings.

    `accuracies` and `losses` (validation, nats) have one value per seed. `seconds` is the mean time
    of one proxy training.
    """

    truth: float
    costs: Mapping[str, int]
    accuracies: Sequence[float]
    losses: Sequence[float]
    seconds: float


def rankings(
    judged: Sequence[Judged], seed: int = 0, metric: str = MULT_ADDS, growth: float = GROWTH
) -> list[RankAgreement]:
    """Return each score's rank agreement with the true accuracy.

    The proxy's score is the validation loss of its first seed, as in a search. "Proxy and cost" is
    the mean of its rank and the rank of the Mult-Adds. "Proxy and growth" adds the expected gain
    until a long training, at the rate `growth`. The cost thirds are of `metric`, or of Mult-Adds if
    it is a latency, which an audit does not measure.
    """
    loss = [-each.losses[0] for each in judged]
    mult_adds = [float(each.costs[MULT_ADDS]) for each in judged]
    scores: dict[str, ArrayLike] = {
        MULT_ADDS: mult_adds,
        PARAMS: [float(each.costs[PARAMS]) for each in judged],
        PROXY: loss,
        f"{PROXY} accuracy": [each.accuracies[0] for each in judged],
        WITH_COST: rankdata(loss) + rankdata(mult_adds),
        WITH_GROWTH: [
            logit(math.exp(-e.losses[0])) + long_training_gain(e.costs, growth) for e in judged
        ],
    }
    truth = np.array([each.truth for each in judged])
    cost = np.array([float(e.costs.get(metric, e.costs[MULT_ADDS])) for e in judged])
    return [
        _ranking(name, np.asarray(score, float), truth, cost, seed)
        for name, score in scores.items()
    ]


def noise(judged: Sequence[Judged]) -> float | None:
    """Return the standard deviation of accuracy over seeds; None without repeated seeds."""
    spreads = [np.var(each.accuracies, ddof=1) for each in judged if len(each.accuracies) > 1]
    return math.sqrt(float(np.mean(spreads))) if spreads else None


def _ranking(
    name: str,
    score: NDArray[np.float64],
    truth: NDArray[np.float64],
    cost: NDArray[np.float64],
    seed: int,
) -> RankAgreement:
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(_bootstrapped_taus(score, truth, seed), [tail, 1 - tail])
    return RankAgreement(
        name,
        tau_or_zero(score, truth),
        float(low),
        float(high),
        taus_in_thirds(score, truth, cost),
        _regret(score, truth, cost),
    )


def tau_or_zero(score: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return Kendall's tau-b, or 0 if it is undefined."""
    tau = kendall_tau(score, truth)
    return 0.0 if math.isnan(tau) else tau


def _bootstrapped_taus(
    score: NDArray[np.float64], truth: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Return Kendall's tau-b for `_BOOTSTRAPS` bootstrap samples of the networks.

    A pair of networks is weighted by how often both were drawn, so the signs of the pairs are
    computed once.
    """
    networks = len(truth)
    draws = np.random.default_rng(seed).integers(0, networks, (_BOOTSTRAPS, networks))
    times = np.stack([np.bincount(rows, minlength=networks) for rows in draws]).astype(float)
    scores, truths = (np.sign(np.subtract.outer(each, each)) for each in (score, truth))

    def drawn(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((times @ pairs * times).sum(axis=1))

    untied = drawn(scores**2) * drawn(truths**2)
    return drawn(scores * truths) / np.sqrt(np.where(untied > 0, untied, np.inf))


def taus_in_thirds(
    score: NDArray[np.float64], truth: NDArray[np.float64], cost: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return Kendall's tau-b within the lowest, middle and highest third of costs."""
    first, second, third = (
        tau_or_zero(score[rows], truth[rows])
        for rows in np.array_split(np.argsort(cost, kind="stable"), 3)
    )
    return first, second, third


def _regret(
    score: NDArray[np.float64], truth: NDArray[np.float64], cost: NDArray[np.float64]
) -> float:
    lost = []
    for share in _BUDGET_SHARES:
        within = np.flatnonzero(cost <= np.quantile(cost, share))
        lost.append(truth[within].max() - truth[within[score[within].argmax()]])
    return float(np.mean(lost))
