"""The space file of NAS-Bench-Macro, against rows of its published table."""

from __future__ import annotations

from pathlib import Path

import pytest

import mbsearch as mb
from mbsearch.config.specification import SearchSpecification

SPACE = Path(__file__).parents[1] / "benchmarks" / "nas_bench_macro.yaml"


@pytest.mark.parametrize(
    ("encoding", "mult_adds", "params"),
    [("02012100", 47_327_744, 890_666), ("11111221", 65_012_224, 2_181_386)],
)
def test_costs_are_those_of_the_table(encoding: str, mult_adds: int, params: int) -> None:
    space = mb.load(SPACE)
    assert isinstance(space, SearchSpecification)
    assert space.size == 3**8
    network = space.decode({f"stages.{i}": int(code) for i, code in enumerate(encoding)})
    costs = mb.measure(network)
    assert (costs["mult_adds"], costs["params"]) == (mult_adds, params)
