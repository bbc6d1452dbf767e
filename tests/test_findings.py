"""Findings of a study: the records within its limits and budgets."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from answer_records import network, reference

from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.findings import Findings
from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.settings import Settings
from mbsearch.errors import StorageError


@pytest.mark.parametrize("seed", range(5))
def test_networks_within_are_those_that_the_search_trains(seed: int) -> None:
    rng = Random(seed)
    records = [
        network(i, 0.5, rng.randrange(10**6, 10**8)) if i % 4 else reference(i, 0.5, 10**7 + i)
        for i in range(60)
    ]
    limits = Limits(mult_adds=8 * 10**7)
    budgets = (Budget(mult_adds=10**7), Budget(mult_adds=9 * 10**7, params=4 * 10**5))
    for bounds in ((), budgets):
        findings = Findings(records, limits=limits, budgets=bounds)
        settings = Settings(limits=limits, budgets=bounds)
        expected = [r for r in records if settings.excess(r.costs) is None]
        assert 0 < len(expected) < len(records)
        assert findings.within == expected
        assert findings.references == [r for r in expected if r.is_baseline]


def test_a_budget_on_a_cost_that_one_record_lacks_is_an_error() -> None:
    record = network(0, 0.5, 10**7)
    bare = replace(record, trial=1, costs={"mult_adds": 10**6})
    assert answers(Findings([record]), [Budget(params=10**9)])
    with pytest.raises(StorageError, match="parameters"):
        answers(Findings([record, bare]), [Budget(params=10**9)])
