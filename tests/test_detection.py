"""The example of networks as backbones of a detector, in short."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import mbsearch as mb
from mbsearch.space.size import Size

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("detection", ROOT / "benchmarks/detection.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_evaluator_scores_right_and_wrong_boxes(example: ModuleType) -> None:
    rng = np.random.default_rng(0)
    scenes = [example.scene(rng, 64) for _ in range(20)]
    right = [{**target, "scores": torch.ones(len(target["labels"]))} for _, target in scenes]
    assert example.average_precision(scenes, right) == (1.0, 1.0)
    shifted = [{**each, "boxes": each["boxes"] * 0.92} for each in right]
    precision, at_half = example.average_precision(scenes, shifted)
    assert 0 < precision < at_half <= 1
    mistaken = [{**each, "labels": each["labels"] % 3 + 1} for each in right]
    assert example.average_precision(scenes, mistaken)[0] < 0.1
    none = [{key: values[:0] for key, values in each.items()} for each in right]
    assert example.average_precision(scenes, none) == (0.0, 0.0)


def test_backbones_cost_the_same(example: ModuleType) -> None:
    winner = mb.load(str(ROOT / "docs/winner.yaml"))
    assert isinstance(winner, mb.Architecture)
    winner = winner.replace(resolution=128)
    for family in ("mobilenet_v1", "mobilenet_v2"):
        reference = example.of_equal_cost(family, winner)
        costs = [example.backbone_mult_adds(each) for each in (reference, winner)]
        assert reference.resolution == Size.square(128)
        assert costs[0] == pytest.approx(costs[1], rel=0.15)


@pytest.mark.slow
def test_the_searched_network_and_mobilenets_learn_to_detect(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--steps", "40", "--tested", "25", "--pixels", "64"]
    scores = example.main([str(ROOT / "docs/winner.yaml"), *arguments])
    names = [name.partition(" ")[0] for name in scores]
    assert names == ["winner", "mobilenet_v1", "mobilenet_v2"]
    assert min(scores.values()) > 0.003, capsys.readouterr().out
