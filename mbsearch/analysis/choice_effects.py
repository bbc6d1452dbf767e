"""Effects of a space's choices on accuracy at equal cost.

Larger networks are more accurate, so a comparison of the options' mean accuracies would measure
cost. A parabola over log10 of the study's cost is subtracted first; effects are of the residuals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ncfdtrinc, stdtrit

from mbsearch.analysis.option_text import option_text
from mbsearch.cost.metrics import find_metric, quantity
from mbsearch.study.records import TrialRecord, complete, metric_of

MIN_NETWORKS = 20
"""Networks that an effect is estimated from, at least: fewer leave intervals that say nothing."""
_MIN_PER_OPTION = 3
_BANDS = 3  # at most
_PER_BAND = 24  # networks, above the minimum: equal costs make bands uneven
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Band:
    """A range of the study's cost; `low` is excluded, `high` is included."""

    low: float
    high: float
    name: str

    def holds(self, record: TrialRecord) -> bool:
        """Return whether a network's cost lies in the range."""
        return self.low < record.cost <= self.high


@dataclass(frozen=True, slots=True)
class OptionEffect:
    """Mean residual accuracy of an option's networks, with its 95 % interval."""

    option: Any
    networks: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Effect:
    """Effect of one choice: its share of the residual variance, and each option's mean.

    `low` and `high` are the 95 % interval of the share. `deviation` is the pooled standard
    deviation within the options, with `freedom` degrees of freedom.
    """

    choice: str
    importance: float
    low: float
    high: float
    options: tuple[OptionEffect, ...]
    deviation: float
    freedom: int

    @property
    def pairs(self) -> int:
        """Number of pairs of options, used for the Bonferroni correction."""
        return math.comb(len(self.options), 2)

    def rule(self, where: str, pairs: int = 0) -> str:
        """Return the effect as text: ``up to 100 M: expansion 6 beats 3 by 0.008 ± 0.003``.

        The best option is better than the worst if a two-sided t-test at 95 % says so, with pooled
        variance and a Bonferroni correction for `pairs` comparisons, at least this effect's own.
        """
        ranked = sorted(self.options, key=lambda o: -o.mean)
        if len(ranked) < 2:
            return f"{where}: {self.choice} has too few networks to tell"
        best, worst = ranked[0], ranked[-1]
        difference = best.mean - worst.mean
        error = self.deviation * math.sqrt(1 / best.networks + 1 / worst.networks)
        chance = (1 - _CONFIDENCE) / 2 / max(self.pairs, pairs)
        if difference < float(stdtrit(self.freedom, 1 - chance)) * error:
            return f"{where}: no option of {self.choice} is clearly better"
        return (
            f"{where}: {self.choice} {option_text(best.option)} beats {option_text(worst.option)} "
            f"by {difference:.3f} ± {error:.3f}"
        )


def searched(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records of completed networks, without baselines."""
    return [r for r in complete(list(records)) if not r.is_baseline]


def cost_bands(records: Sequence[TrialRecord]) -> list[Band]:
    """Return up to three ranges of cost with equal numbers of searched networks."""
    costs = [r.cost for r in searched(records)]
    if not costs:
        return []
    bands = min(_BANDS, max(1, len(costs) // _PER_BAND))
    inner = np.quantile(costs, [i / bands for i in range(1, bands)]).tolist()
    edges = sorted({0.0, *inner, float(max(costs))})
    return [Band(low, high, _range(metric_of(records), low, high)) for low, high in pairwise(edges)]


def effects(records: Sequence[TrialRecord], band: Band | None = None) -> list[Effect]:
    """Return the effect of each choice with at least two options, by decreasing importance.

    The importance is omega squared: the share of the residual variance that the choice explains,
    corrected for chance. It is 0 on average for a choice without effect. Networks without the
    choice are left out.

    Args:
        records: of one study.
        band: use networks of this range only; the parabola is fitted within it.
    """
    networks = [r for r in searched(records) if band is None or band.holds(r)]
    if len(networks) < MIN_NETWORKS:
        return []
    residuals = _residuals(networks)
    found = [_effect(name, networks, residuals) for name in _names(networks)]
    return sorted((e for e in found if len(e.options) > 1), key=lambda e: -e.importance)


def rules(records: Sequence[TrialRecord]) -> list[str]:
    """Return one line per significant effect, or a single line if there is none."""
    compared = [(band, effect) for band in cost_bands(records) for effect in effects(records, band)]
    pairs = sum(effect.pairs for _, effect in compared)
    noun = find_metric(metric_of(records)).noun
    found = [effect.rule(f"{band.name} {noun}", pairs) for band, effect in compared]
    clear = [rule for rule in found if "beats" in rule]
    return [rule[0].upper() + rule[1:] for rule in clear] or [
        "No option is clearly better than another at equal cost, so far."
    ]


def option_of(record: TrialRecord, choice: str) -> Any:
    """Return a network's option for a choice; None if it has no such choice."""
    return record.params.get(choice)


def residual_accuracies(networks: Sequence[TrialRecord]) -> list[float]:
    """Return each network's accuracy minus the accuracy that a regression on cost predicts."""
    found: list[float] = _residuals(networks).tolist()
    return found


def _names(networks: Sequence[TrialRecord]) -> list[str]:
    return list(dict.fromkeys(name for r in networks for name in r.params))


def _residuals(networks: Sequence[TrialRecord]) -> NDArray[np.float64]:
    accuracy = np.array([r.accuracy for r in networks])
    cost = np.log10([r.cost for r in networks])
    design = np.vander((cost - cost.mean()) / max(float(np.std(cost)), 1e-9), 3)
    solution = np.linalg.lstsq(design, accuracy, rcond=None)[0]
    return np.asarray(accuracy - design @ solution)


def _effect(choice: str, networks: Sequence[TrialRecord], residuals: NDArray[np.float64]) -> Effect:
    groups: dict[Any, list[float]] = {}
    for record, value in zip(networks, residuals, strict=True):
        if choice in record.params:
            groups.setdefault(option_of(record, choice), []).append(float(value))
    kept = {o: np.array(v) for o, v in groups.items() if len(v) >= _MIN_PER_OPTION}
    members = list(kept.values())
    freedom = sum(v.size - 1 for v in members)
    inside = sum(float(((v - v.mean()) ** 2).sum()) for v in members)
    mean_square = inside / freedom if freedom else 0.0
    deviation = math.sqrt(mean_square)
    reach = float(stdtrit(freedom, (1 + _CONFIDENCE) / 2)) * deviation if freedom else 0.0
    options = tuple(
        OptionEffect(
            o,
            v.size,
            float(v.mean()),
            float(v.mean()) - reach / math.sqrt(v.size),
            float(v.mean()) + reach / math.sqrt(v.size),
        )
        for o, v in sorted(kept.items(), key=lambda item: str(item[0]))
    )
    share = _omega_squared(members, inside, mean_square)
    return Effect(choice, *share, options, deviation, freedom)


def _omega_squared(
    groups: Sequence[NDArray[np.float64]], inside: float, mean_square: float
) -> tuple[float, float, float]:
    """Return the between-group share of variance, bias-corrected, with its 95 % interval.

    The share is at least 0 (Hays, 1963). The interval inverts the noncentral F distribution
    (Steiger, 2004).

    Args:
        groups: values by option.
        inside: sum of squares within the groups.
        mean_square: variance within the groups.
    """
    if len(groups) < 2:
        return 0.0, 0.0, 0.0
    values = np.concatenate(groups)
    between = sum(g.size * float((g.mean() - values.mean()) ** 2) for g in groups)
    total = inside + between + mean_square
    if total == 0:
        return 0.0, 0.0, 0.0
    freedom = len(groups) - 1
    share = max(0.0, (between - freedom * mean_square) / total)
    if mean_square == 0:
        return share, share, share
    f = between / freedom / mean_square
    tails = ((1 + _CONFIDENCE) / 2, (1 - _CONFIDENCE) / 2)
    bounds = [float(ncfdtrinc(freedom, values.size - len(groups), tail, f)) for tail in tails]
    low, high = (bound / (bound + values.size) if bound > 0 else 0.0 for bound in bounds)
    return share, min(low, share), max(high, share)


def _range(metric: str, low: float, high: float) -> str:
    top = quantity(metric, high)
    return f"{quantity(metric, low)} to {top}" if low else f"up to {top}"
