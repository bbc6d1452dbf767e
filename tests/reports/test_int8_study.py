"""A whole study for int8: search with validated finals, retraining, export."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from noise_images import write_noise_images

from .conftest import Mbsearch

SPACE = """\
name: small
resolution: 16
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 8, stride: 2, expansion: {choices: [2, 3, 4, 6]}}
head: {channels: 16}
budgets: [10M]
weights: none
proxy: {epochs: 1, batch_size: 8, train_images: null, validation_images: null}
promotion: {share: 0}
finals: {minutes: 1, networks: 1, epochs: 2, int8: true}
retrain: {epochs: 2, batch_size: 8, seeds: 1}
"""


@pytest.mark.slow
def test_a_study_for_int8_has_its_accuracy_from_the_search_to_the_export(
    mbsearch: Mbsearch, tmp_path: Path
) -> None:
    write_noise_images(tmp_path / "photos", {"train": 24, "val": 40, "test": 20})
    (tmp_path / "small.yaml").write_text(SPACE)
    options = ("--space", "small.yaml", "--data", "photos", "--trials", "4", "--no-export")
    ran = mbsearch("run", *options, "--name", "s", "--jobs", "1")
    assert ran.code == 0, ran.text
    trials = pd.read_csv(tmp_path / "results" / "s" / "trials.csv")
    (final,) = trials["int8_accuracy"].dropna()
    assert 0.4 < final <= 1
    status = mbsearch("status", "results/s")
    assert "int8: validation accuracy" in status.text
    best = str(trials.loc[trials["int8_accuracy"].notna(), "trial"].item())
    retrained = mbsearch("retrain", "results/s", "--trial", best, "--int8", "--jobs", "1")
    assert retrained.code == 0, retrained.text
    assert "before fine-tuning" in retrained.text
    rows = json.loads((tmp_path / "results" / "s" / "retrain.json").read_text())["networks"]
    tested = rows[0]["int8_accuracy"]
    assert list(rows[0]["int8"]) == ["0"]
    chosen = ("--trial", best, "--formats", "onnx")
    exported = mbsearch("export", "results/s", *chosen, "--int8", "-o", "winner")
    assert exported.code == 0, exported.text
    card = (tmp_path / "winner" / "README.md").read_text()
    accuracy = f"int8 classifies {tested:.4f} of 40 test images correctly"
    assert accuracy in card
    assert f"model.int8.onnx: {accuracy}" in exported.text
    assert "(int8 after quantisation-aware fine-tuning)" in card
