"""The page on dead kernels has the numbers of the stored trainings and of the donor."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "experiments" / "dead_units.md").read_text()


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("dead_kernels")


@pytest.mark.parametrize("recipe", ["adamw", "sgd"])
def test_the_tables_are_those_of_the_stored_trainings(benchmark: ModuleType, recipe: str) -> None:
    rows = benchmark.read_rows(ROOT / "results" / "dead_units" / f"{recipe}.csv")
    lines = benchmark.table(rows)
    assert len(lines) == 4
    assert "\n".join(lines) in PAGE


def test_the_kernels_of_the_donor_are_those_of_its_file(benchmark: ModuleType) -> None:
    dead, kernels = benchmark.donor_kernels()
    assert f"{dead} of its {kernels:,} depthwise kernels ({100 * dead / kernels:.1f} %)" in PAGE


def test_the_networks_differ_in_the_last_activation_of_a_block_only(benchmark: ModuleType) -> None:
    for name in benchmark.NETWORKS:
        linear, activated = (benchmark.network_of(name, linear=each) for each in (True, False))
        pairs = zip(linear.layers(), activated.layers(), strict=True)
        changed = {a.name.rsplit(".", 1)[-1] for a, b in pairs if a.layer != b.layer}
        assert changed == {"pointwise" if name == "MobileNetV1" else "projection"}
