from __future__ import annotations

import pytest

from mbsearch.cli.terminal import parse_budget
from mbsearch.config.budgets import Budget
from mbsearch.cost.metrics import LATENCY
from mbsearch.errors import SpecError
from mbsearch.study.records import DEFAULT_METRIC


@pytest.mark.parametrize(
    ("text", "metric", "bounds"),
    [
        ("20M", DEFAULT_METRIC, {"mult_adds": 20_000_000}),
        ("500k", "params", {"params": 500_000}),
        ("5ms", LATENCY, {LATENCY: 5000}),
        ("params=500k", DEFAULT_METRIC, {"params": 500_000}),
        (" mult_adds = 20M , params=500k", LATENCY, {"mult_adds": 20_000_000, "params": 500_000}),
        ("latency=5ms", DEFAULT_METRIC, {LATENCY: 5000}),
    ],
)
def test_a_budget_option_bounds_the_objective_or_named_costs(
    text: str, metric: str, bounds: dict[str, int]
) -> None:
    budget = parse_budget("--budget", text, metric)
    assert isinstance(budget, Budget)
    assert budget.bounds() == bounds
    assert Budget.model_validate(budget.model_dump(mode="json")) == budget, "as a study stores it"


@pytest.mark.parametrize(
    ("text", "metric", "words"),
    [
        ("much", DEFAULT_METRIC, "--budget: expected a positive number"),
        ("", DEFAULT_METRIC, "--budget: expected a positive number"),
        ("20M", LATENCY, "--budget: expected a time with its unit"),
        ("mult_add=20M", DEFAULT_METRIC, "expected one of mult_adds, params"),
        ("params=0", DEFAULT_METRIC, "--budget params: expected a positive number"),
        ("params=1k,params=2k", DEFAULT_METRIC, "expected each cost once, got params twice"),
        ("20M,params=1k", DEFAULT_METRIC, "expected one of mult_adds, params"),
    ],
)
def test_an_invalid_budget_is_an_error_that_names_the_option(
    text: str, metric: str, words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        parse_budget("--budget", text, metric)
