"""Costs of networks in the docs are those that mbsearch computes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mbsearch.config.families import FAMILIES, scaled_reference
from mbsearch.cost import measure
from mbsearch.cost.metrics import quantity

PAGE = Path(__file__).parents[1] / "docs" / "choosing_budgets.md"
ROWS = re.findall(r"^\| (\S+) ([\d.]+)/(\d+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
REFERENCES = {family.name: key for key, family in FAMILIES.items()}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}/{row[2]}")
def test_sizes_of_the_networks_on_the_page_of_budgets(row: tuple[str, str, str, str]) -> None:
    name, alpha, resolution, cells = row
    costs = measure(scaled_reference(REFERENCES[name], float(alpha), int(resolution)))
    keys = ("mult_adds", "params", "flash_bytes", "ram_bytes")
    assert cells.split(" | ") == [quantity(key, costs[key]) for key in keys]


def test_the_page_of_budgets_has_sizes() -> None:
    assert len(ROWS) >= 8
