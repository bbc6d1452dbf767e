"""What a study has found: the front, the choice of a network, the lead over the MobileNets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbsearch import pareto
from mbsearch.errors import StorageError
from mbsearch.records import BASELINE_FAMILIES, TrialRecord, complete, metric_of, shown
from mbsearch.space.settings import Limits
from mbsearch.units import NOUNS, amount, round_amounts

if TYPE_CHECKING:
    import pandas as pd

FAMILY_NAMES = {"mobilenet_v1": "V1", "mobilenet_v2": "MobileNetV2"}


def front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The networks that no other one beats in accuracy and cost, cheapest first."""
    done = shown(records)
    indices = pareto.pareto_front([r.accuracy for r in done], [r.cost for r in done])
    return [done[i] for i in indices]


def knee(records: Sequence[TrialRecord]) -> TrialRecord:
    """The network of the front from which on more cost pays least.

    Raises:
        StorageError: no trial is complete.
    """
    done = _some(shown(records))
    return done[pareto.knee([r.accuracy for r in done], [r.cost for r in done])]


def best_within(records: Sequence[TrialRecord], limits: Limits) -> TrialRecord:
    """The network to use within limits: the one expected to be the most accurate.

    Of equals the cheapest.

    Raises:
        StorageError: no trained network keeps them; the cheapest is named with what it breaks. Or
            one is on latency, which the study does not know.
    """
    done = _some(_choosable(records))
    for metric in limits.bounds():
        if metric not in done[0].costs:
            raise StorageError(
                f"expected a study that knows {NOUNS[metric]}, got one without: it was searched "
                "by other objectives and limits"
            )
    affordable = [r for r in done if limits.excess(r.costs) is None]
    if not affordable:
        cheapest = min(done, key=lambda r: r.cost)
        raise StorageError(
            "expected a trained network within the limits, got none: of the cheapest, trial "
            f"{cheapest.trial}, {limits.excess(cheapest.costs)}"
        )
    return max(affordable, key=_goodness)


def _goodness(record: TrialRecord) -> tuple[float, float, int]:
    """What the best is the largest of: of equals in what is expected the more accurate, cheaper."""
    return record.likely, record.accuracy, -record.cost


def cheapest_tied(records: Sequence[TrialRecord], record: TrialRecord) -> TrialRecord:
    """The cheapest network that is as accurate as `record` within the noise, by what is expected.

    Raises:
        StorageError: the noise has not been measured yet, or the trial did not end.
    """
    done = _some(_choosable(records))
    noise = record.likely_noise
    if noise is None or record.trial not in [r.trial for r in done]:
        raise StorageError(
            f"trial {record.trial}: expected a trained network and a measured noise to find its "
            "equals, got none yet; let the study repeat its baselines first"
        )
    index = [r.trial for r in done].index(record.trial)
    accuracies, costs = [r.likely for r in done], [r.cost for r in done]
    return done[pareto.cheapest_tied(accuracies, costs, noise, index)]


def by_trial(records: Sequence[TrialRecord], trial: int) -> TrialRecord:
    """The record with this number, as its longest training tells it.

    Raises:
        StorageError: there is none.
    """
    for record in records:
        if record.trial == trial:
            return record.highest
    last = max((r.trial for r in records), default=None)
    numbers = "no trials yet"
    if last is not None:
        numbers = f"0 to {last}, but for those that only repeat another's training"
    raise StorageError(f"trial {trial}: expected a trial of the study ({numbers})")


def _some(records: list[TrialRecord]) -> list[TrialRecord]:
    if not records:
        raise StorageError("expected at least one complete trial, got none yet")
    return records


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answer at one budget: the candidate to use, and the best of each MobileNet family."""

    metric: str
    budget: int
    best: TrialRecord | None
    families: dict[str, TrialRecord]
    promoted: bool = False
    overtaken: tuple[str, ...] = ()
    """Families whose best within the budget, by the short training, was not promoted."""
    known: tuple[str, ...] = BASELINE_FAMILIES
    """Families of which the study has trained any."""

    def sentence(self) -> str:
        """``at 100 M Mult-Adds: best found 0.871 ± 0.006, MobileNetV2 0.855, V1 0.842``.

        Where a model of the study expects another accuracy of the network than its training showed:
        ``best found 0.871 ± 0.006 (0.866 expected)``. Where the others were promoted and it was
        not: ``best found 0.866 expected (0.790 ± 0.008 after the short training)``. Of a family
        whose best was not promoted, the others only say: ``MobileNetV2 0.855 or more``.
        """
        parts = []
        if self.best is None:
            parts.append("nothing found yet")
        else:
            parts.append(f"best found {_found(self.best, self.promoted)}")
        parts += [self._rival(f) for f in reversed(BASELINE_FAMILIES) if f in self.known]
        return f"at {amount(self.metric, self.budget)}: {', '.join(parts)}{self._verdict()}"

    def _rival(self, family: str) -> str:
        record, name = self.families.get(family), FAMILY_NAMES[family]
        if record is not None:
            more = " or more" if family in self.overtaken else ""
            # Expected only where networks gain by their costs: then the lead is between these.
            gained = "" if record.expected is None else f" ({record.expected:.3f} expected)"
            return f"{name} {record.accuracy:.3f}{more}{gained}"
        return f"{name} not trained longer" if family in self.overtaken else f"no {name} this cheap"

    def _verdict(self) -> str:
        """A caution where the lead over the best MobileNet is within the noise, or not known."""
        if self.best is None or not self.families:
            return ""
        lead = self.best.likely - max(r.likely for r in self.families.values())
        noise = self.best.likely_noise
        if lead <= 0:
            return " (the search has not beaten the MobileNets here)"
        if self.overtaken:
            return " (MobileNets that may be better were not trained longer)"
        # The difference of two evaluations has sqrt(2) times the noise of one.
        if noise is not None and lead < pareto.Z_95 * math.sqrt(2) * noise:
            return " (a lead within the noise)"
        return ""


def _found(record: TrialRecord, promoted: bool) -> str:
    """What is known of the accuracy of a network, and what is expected of it."""
    noise, expected = record.accuracy_noise, record.expected
    measured = f"{record.accuracy:.3f}" + ("" if noise is None else f" ± {noise:.3f}")
    if expected is None:
        return measured
    if promoted and record.promotion is None:
        return f"{expected:.3f} expected ({measured} after the short training)"
    return f"{measured} ({expected:.3f} expected)"


def best_at(records: Sequence[TrialRecord], budget: int) -> TrialRecord | None:
    """The network to use within a budget of the study's cost, baselines too; None where none is."""
    return _best([r for r in _choosable(records) if r.cost <= budget])


def mobilenets(records: Sequence[TrialRecord], budget: int) -> list[TrialRecord]:
    """The most accurate MobileNet of either family within a cost, by the proxy's training."""
    within = [r for r in complete(list(records)) if r.cost <= budget]
    families = [[r for r in within if r.origin == family] for family in BASELINE_FAMILIES]
    return [max(family, key=lambda r: (r.accuracy, -r.cost)) for family in families if family]


def compare(
    records: Sequence[TrialRecord], budget: int, among: Sequence[TrialRecord] | None = None
) -> Comparison:
    """What a budget of the study's cost buys: found by the search, and as MobileNet V1 and V2.

    Only the records `among` which it is chosen count, of those of the study: all by default.
    """
    among = records if among is None else among
    within = [r for r in _choosable(among) if r.cost <= budget]
    families = {f: _best([r for r in within if r.origin == f]) for f in BASELINE_FAMILIES}
    known = {r.trial for r in within}
    return Comparison(
        metric_of(records),
        budget,
        _best([r for r in within if not r.is_baseline]),
        {family: record for family, record in families.items() if record is not None},
        any(r.promotion is not None for r in among),
        tuple(r.origin for r in mobilenets(among, budget) if r.trial not in known),
        tuple({r.origin for r in complete(list(records))} & set(BASELINE_FAMILIES)),
    )


def _best(records: Sequence[TrialRecord]) -> TrialRecord | None:
    return max(records, key=_goodness, default=None)


def _choosable(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The records on one scale: those shown, and those of which something is expected on it."""
    among = {r.trial: r for r in complete(list(records)) if r.expected is not None}
    return list((among | {r.trial: r for r in shown(records)}).values())


def natural_budgets(records: Sequence[TrialRecord]) -> list[int]:
    """Round budgets of the study's cost (1, 2, 5, 10, ... M) inside the range that was trained."""
    costs = [r.cost for r in shown(records)]
    if not costs:
        return []
    low, high = min(costs), max(costs)
    inside = [round(b) for b in round_amounts(metric_of(records)) if low <= b < 2 * high]
    return inside or [high]


@dataclass(frozen=True, slots=True)
class Hypervolumes:
    """Area under the front over log10 of the cost, with its reference point (accuracy, cost)."""

    all: float
    search: float
    baselines: float
    reference_point: tuple[float, int]


def hypervolumes(records: Sequence[TrialRecord]) -> Hypervolumes:
    """Hypervolume of everything, of the search alone, and of the baselines alone.

    The reference point is accuracy 0 at the dearest trained network.

    Raises:
        StorageError: no trial is complete.
    """
    done = _some(shown(records))
    worst = max(r.cost for r in done)

    def volume(group: list[TrialRecord]) -> float:
        costs = [math.log10(r.cost) for r in group]
        return pareto.hypervolume([r.accuracy for r in group], costs, (0.0, math.log10(worst)))

    searched = [r for r in done if not r.is_baseline]
    baselines = [r for r in done if r.is_baseline]
    return Hypervolumes(volume(done), volume(searched), volume(baselines), (0.0, worst))


def front_rows(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The front as plain data, one object a network, as ``status --json`` prints it."""
    return [_plain(r) for r in front(records)]


def answer_row(comparison: Comparison) -> dict[str, Any]:
    """An answer as plain data, as ``status --at BUDGET --json`` prints it."""
    best, families = comparison.best, comparison.families
    return {
        "metric": comparison.metric,
        "budget": comparison.budget,
        "best": None if best is None else _plain(best),
        **{f: _plain(families[f]) if f in families else None for f in BASELINE_FAMILIES},
        "sentence": comparison.sentence(),
    }


def _plain(record: TrialRecord) -> dict[str, Any]:
    return {
        "trial": record.trial,
        "origin": record.origin,
        "accuracy": record.accuracy,
        "accuracy_noise": record.accuracy_noise,
        "expected": record.expected,
        "promoted": record.promotion is not None,
        "mult_adds": record.mult_adds,
        "params": record.costs["params"],
        record.metric: record.cost,
        "alpha": record.architecture.alpha,
        "resolution": record.architecture.resolution,
    }


def to_frame(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """Every record as a row: identity, state, costs, evaluation, and one column a choice."""
    import pandas as pd

    on_front = {r.trial for r in front(records)}
    rows = []
    for r in records:
        evaluation, promotion = r.evaluation, r.promotion
        row: dict[str, Any] = {
            "trial": r.trial,
            "origin": r.origin,
            "state": str(r.state),
            "on_front": r.trial in on_front,
            "accuracy": evaluation.accuracy if evaluation else None,
            "accuracy_noise": r.accuracy_noise,
            "promoted_accuracy": promotion.accuracy if promotion else None,
            "expected": r.expected,
            "validation_loss": evaluation.validation_loss if evaluation else None,
            **r.costs,
            "alpha": r.architecture.alpha,
            "resolution": r.architecture.resolution,
            "num_classes": r.architecture.num_classes,
            "fingerprint": r.fingerprint,
            "seconds": evaluation.seconds if evaluation else None,
            "promoted_seconds": promotion.seconds if promotion else None,
            "seed": evaluation.seed if evaluation else None,
            "pixels": evaluation.pixels if evaluation else None,
            "device": evaluation.device if evaluation else None,
            "versions": json.dumps(dict(evaluation.versions)) if evaluation else None,
            "recipe": json.dumps(dict(evaluation.recipe)) if evaluation else None,
            "promoted_recipe": json.dumps(dict(promotion.recipe)) if promotion else None,
            "curve": json.dumps(evaluation.to_dict()["curve"]) if evaluation else None,
            "error": r.error,
            "started": r.started,
            "ended": r.ended,
        }
        rows.append(row | {f"choice {name}": value for name, value in r.params.items()})
    return pd.DataFrame(rows)
