"""The tables of int8 losses in the docs are those of the stored rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


def row(name: str, float32: float, int8: float, fine_tuned: float) -> str:
    loss = f"{100 * (float32 - int8):.2f}".replace("-", "\N{MINUS SIGN}")
    return f"| {name} | {float32:.4f} | {int8:.4f} | {loss} | {fine_tuned:.4f} |"


@pytest.mark.parametrize("activation", ["relu6", "relu"])
def test_the_page_has_the_accuracies_of_each_training_and_their_means(activation: str) -> None:
    table = pd.read_csv(ROOT / "results" / "int8" / f"{activation}.csv")
    text = (ROOT / "docs" / "papers" / "relu6_int8.md").read_text(encoding="utf-8")
    columns = ["float32", "int8", "fine_tuned"]
    for seed, *accuracies in table[["seed", *columns]].itertuples(index=False):
        assert row(f"seed {seed}", *accuracies) in text
    assert row("mean", *table[columns].mean()) in text
