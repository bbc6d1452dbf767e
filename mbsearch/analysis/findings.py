"""Findings of a study: the data that answers are computed from, and the budgets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.settings import Settings
from mbsearch.cost.metrics import find_metric, round_amounts
from mbsearch.errors import StorageError
from mbsearch.study.identity import IDENTITY
from mbsearch.study.images_record import ImagesRecord
from mbsearch.study.records import TrialRecord, complete, metric_of, of_highest_fidelity
from mbsearch.study.retrained_file import Retrained


@dataclass(frozen=True)
class Findings:
    """The records of a study, its retrained networks, limits, budgets, and facts of its images."""

    records: Sequence[TrialRecord]
    retrained: Sequence[Retrained] = ()
    limits: Limits = field(default_factory=Limits)
    budgets: tuple[Budget, ...] = ()
    images: ImagesRecord | None = None

    @cached_property
    def within(self) -> list[TrialRecord]:
        """The records within the limits and at least one budget."""
        bounded = {metric for each in (self.limits, *self.budgets) for metric in each.bounds()}
        if not bounded <= self.known_costs:
            return list(self.records)
        if not self.budgets:
            return self.within_limits
        parts = [records_within(self.within_limits, budget) for budget in self.budgets]
        trials = {r.trial for part in parts for r in part}
        return [r for r in self.within_limits if r.trial in trials]

    @cached_property
    def references(self) -> list[TrialRecord]:
        """The references among `within`."""
        return [r for r in self.within if r.is_baseline]

    @cached_property
    def trained_references(self) -> list[TrialRecord]:
        """The references among `records`."""
        return [r for r in self.records if r.is_baseline]

    @cached_property
    def within_limits(self) -> list[TrialRecord]:
        """The records within the limits, ignoring limits on costs that a record lacks."""
        return records_within(self.records, self.limits)

    @cached_property
    def finalists(self) -> list[TrialRecord]:
        """The records within the limits that were trained by the full recipe."""
        return [r for r in self.within_limits if r.finals]

    @cached_property
    def known_costs(self) -> frozenset[str]:
        """The keys of the costs that every record has."""
        first = self.records[0].costs if self.records else ()
        return frozenset(first).intersection(*(r.costs for r in self.records))

    @cached_property
    def choosable(self) -> list[TrialRecord]:
        """The records within the limits to choose from, whose accuracies are comparable.

        Predictions are for the longest training of the study. Without finals, that is the training
        of the records of the highest fidelity, and both are comparable. With finals, it is not, and
        measurements are compared if a reference has no prediction.
        """
        records = self.within_limits
        highest = {r.trial: r for r in of_highest_fidelity(records)}
        predicted = {r.trial: r for r in complete(records) if r.predicted is not None}
        if not any(r.finals for r in records):
            return list((predicted | highest).values())
        references = {r.trial for r in highest.values() if r.is_baseline}
        if predicted and references <= predicted.keys():
            return list(predicted.values())
        return list(map(measured, highest.values()))

    @property
    def requested(self) -> tuple[Budget, ...]:
        """The budgets of the search; if it has none, its limits as one budget."""
        return Settings(limits=self.limits, budgets=self.budgets).questions

    @cached_property
    def default_budgets(self) -> tuple[Budget, ...]:
        """The budgets that are answered by default.

        Those of the search; else round amounts of the study's cost between the
        smallest and the largest reference; else between the smallest and the largest network.
        """
        if self.requested:
            return self.requested
        metric = metric_of(self.records)
        low, high = _cost_range(self.trained_references)
        amounts = [round(a) for a in round_amounts(metric) if low <= a <= high]
        amounts = amounts or natural_budgets(self.records)
        return tuple(Budget.of({metric: each}) for each in amounts)

    @property
    def main_budget(self) -> Budget | None:
        """The budget whose answer is shown first and exported by default.

        The first one of the search, else the round amount nearest to the middle of the range of the
        references' costs, on a logarithmic scale. None before any training is complete.
        """
        if self.requested:
            return self.requested[0]
        metric = metric_of(self.records)
        references = of_highest_fidelity(self.trained_references)
        low, high = _cost_range(references or self.records)

        def distance(budget: Budget) -> float:
            return abs(math.log(budget.bounds()[metric] ** 2 / (low * high)))

        return min(self.default_budgets, key=distance, default=None)


def findings_of(
    records: Sequence[TrialRecord],
    settings: Mapping[str, Any],
    retrained: Sequence[Retrained] = (),
) -> Findings:
    """Return the findings for a study's records and stored settings."""
    limits = (settings.get(IDENTITY) or {}).get("limits", {})
    budgets = settings.get("budgets", ())
    return Findings(
        records,
        retrained,
        Limits.model_validate(limits),
        tuple(Budget.model_validate(each) for each in budgets),
        ImagesRecord.of(settings),
    )


def natural_budgets(records: Sequence[TrialRecord]) -> list[int]:
    """Return round budgets (1, 2, 5, ... M) in the range of the networks' costs."""
    costs = [r.cost for r in of_highest_fidelity(records)]
    if not costs:
        return []
    low, high = min(costs), max(costs)
    inside = [round(b) for b in round_amounts(metric_of(records)) if low <= b < 2 * high]
    return inside or [high]


def measured(record: TrialRecord) -> TrialRecord:
    """Return a record without its predicted accuracy."""
    return replace(record, predicted=None, predicted_deviation=None)


def budget_of(record: TrialRecord) -> Budget:
    """Return a budget equal to a network's cost."""
    return Budget.of({record.metric: record.cost})


def is_within(bounds: Limits | Budget, costs: Mapping[str, int]) -> bool:
    """Return whether costs are within their bounds, ignoring bounds on unknown costs."""
    return all(costs[m] <= bound for m, bound in bounds.bounds().items() if m in costs)


def records_within(records: Sequence[TrialRecord], bounds: Limits | Budget) -> list[TrialRecord]:
    """Return the records whose costs are within bounds, ignoring bounds on unknown costs."""
    found = list(records)
    for metric, bound in bounds.bounds().items():
        found = [r for r in found if r.costs.get(metric, 0) <= bound]
    return found


def require_costs(findings: Findings, budget: Budget) -> None:
    """Raise an error if a budget bounds a cost that the study does not have."""
    for metric in budget.bounds():
        if findings.records and metric not in findings.known_costs:
            raise StorageError(
                f"expected a study that knows {find_metric(metric).noun}, got one without: it was "
                "searched with other objectives and limits"
            )


def _cost_range(records: Sequence[TrialRecord]) -> tuple[int, int]:
    """Return the smallest and the largest cost of the completed networks; (1, 0) without any."""
    costs = [r.cost for r in of_highest_fidelity(records)]
    return min(costs, default=1), max(costs, default=0)
