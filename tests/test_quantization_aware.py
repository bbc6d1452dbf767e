"""Quantisation-aware fine-tuning: its rounding is that of the int8 file, and it trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exportable_network import exportable
from noise_images import write_noise_images
from striped_images import RECIPE, SMALL, TRAIN, VALIDATION
from torch import nn

from mbsearch.config.retrain_settings import Retrain
from mbsearch.data.batches import Split, batches
from mbsearch.execution.protocol import Task
from mbsearch.export.graphs import INT8, run_onnx, write_onnx
from mbsearch.export.quantization import quantise
from mbsearch.figures.retrained import retrained_head, retrained_rows
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.records import Int8Evaluation, Predictions
from mbsearch.study.retrained_file import Retrained, merged
from mbsearch.training import long_training
from mbsearch.training.long_training import FinalTraining
from mbsearch.training.loop import evaluated
from mbsearch.training.network import build
from mbsearch.training.quantization_aware import (
    QuantizationAwareTraining,
    RoundedNetwork,
    calibrate,
    rounded_weights,
)

CPU = torch.device("cpu")
V3 = Architecture.model_validate(
    {
        "resolution": 16,
        "num_classes": 4,
        "stem": {"channels": 8, "activation": "hard_swish"},
        "stages": [
            {"block": "separable", "channels": 8},
            {
                "block": "inverted_residual",
                "channels": 8,
                "expansion": 2,
                "activation": "hard_swish",
                "squeeze_ratio": 0.25,
            },
        ],
    }
)


def logits(network: nn.Module, split: Split) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([network(batch.images) for batch in batches(split, 64)])


def test_rounded_weights_have_255_levels_a_channel_and_an_identity_gradient() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight.requires_grad_()
    rounded = rounded_weights(weight)
    scale = weight.detach().flatten(1).abs().amax(1)[:, None, None, None] / 127
    steps, error = rounded.detach() / scale, (rounded - weight).detach().abs()
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert float(error.max()) <= float(scale.max()) / 2 + 1e-6
    (gradient,) = torch.autograd.grad(rounded.sum(), weight)
    assert torch.equal(gradient, torch.ones_like(weight))


def test_mixed_precision_does_not_reach_the_rounded_network() -> None:
    network = build(SMALL.replace(num_classes=4, resolution=16)).eval()
    rounded = RoundedNetwork(network, CPU)
    calibrate(rounded, VALIDATION, CPU)
    plain = logits(rounded, VALIDATION)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = logits(rounded, VALIDATION)
    assert mixed.dtype == torch.float32
    assert torch.equal(plain, mixed)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [SMALL.replace(num_classes=4, resolution=16), V3])
def test_the_rounded_network_is_nearer_to_the_int8_file_than_float32_is(
    architecture: Architecture, tmp_path: Path
) -> None:
    network = exportable(architecture)
    write_onnx(network, tmp_path)
    quantise(tmp_path, TRAIN, VALIDATION, "validation")
    run = run_onnx(tmp_path / INT8)
    int8 = torch.cat([run(batch.images.contiguous()) for batch in batches(VALIDATION, 64)])
    rounded = RoundedNetwork(network.module, CPU)
    calibrate(rounded, TRAIN, CPU)
    distance = (logits(rounded, VALIDATION) - int8).norm()
    assert float(distance) < 0.6 * float((logits(network.module, VALIDATION) - int8).norm())


def test_fine_tuning_changes_the_network_itself_and_improves_its_rounded_accuracy() -> None:
    architecture = SMALL.replace(num_classes=4, resolution=16)
    network = build(architecture, seed=1)
    with torch.no_grad():  # statistics of its own, which fine-tuning keeps
        network.train()(next(batches(TRAIN, 128)).images)
    network.eval()
    statistics = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    names = set(network.state_dict())
    recipe = RECIPE.model_copy(update={"epochs": 3, "learning_rate": 0.01})
    training = QuantizationAwareTraining(
        network, recipe, TRAIN, None, CPU, seed=0, flip=False, calibration=TRAIN
    )
    losses = [training.run_epoch().train_loss for _ in range(3)]
    assert losses[-1] < 0.9 * losses[0]
    assert set(network.state_dict()) == names
    for name, value in statistics.items():
        assert torch.equal(network.state_dict()[name], value)
    fresh = build(architecture)
    fresh.load_state_dict(network.state_dict())
    right = (logits(fresh.eval(), TRAIN).argmax(1) == TRAIN.labels).float().mean()
    assert float(right) > 0.5


def retraining(folder: Path, *, quantization_aware: bool) -> FinalTraining:
    recipe = Retrain(epochs=4, batch_size=8, quantization_aware=quantization_aware)
    return FinalTraining(recipe, 1.0, str(folder / "images"), folder / "retrain", int8=by_float32)


def by_float32(
    architecture: Architecture, network: nn.Module, _source: object, scored: Sequence[Split]
) -> list[Predictions]:
    """The predictions in float32, in the place of onnxruntime's."""
    return [evaluated(network, split, CPU)[1] for split in scored]


def test_retraining_fine_tunes_once_and_keeps_the_float32_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    write_noise_images(tmp_path / "images", {"train": 16, "val": 8, "test": 10})
    task = Task(SMALL.replace(resolution=16), seed=0)
    plain, aware = (retraining(tmp_path, quantization_aware=each) for each in (False, True))
    first = plain.evaluate(task).evaluation
    assert first.int8 is None
    found = aware.evaluate(task).evaluation
    assert found.accuracy == first.accuracy
    seconds = [[epoch.seconds for epoch in each.curve] for each in (first, found)]
    assert seconds[0] == seconds[1], "the float32 training is resumed, not repeated"
    int8 = found.int8
    assert int8 is not None
    assert int8.before is not None
    assert int8.after is not None
    assert len(int8.predictions.labels) == 20, "test images"
    trained, tuned = (torch.load(aware.home(task) / f"{name}.pt") for name in ("weights", "int8"))
    assert trained.keys() == tuned.keys()
    assert any(not torch.equal(trained[key], tuned[key]) for key in trained)
    monkeypatch.setattr(long_training, "fine_tune", None)  # a second fine-tuning would fail
    again = aware.evaluate(task).evaluation.int8
    assert again is not None
    assert (again.accuracy, again.after) == (int8.accuracy, int8.after)
    assert Retrain().facts() == Retrain(quantization_aware=True).facts()


def test_a_later_retraining_keeps_the_int8_accuracies_of_an_earlier_one() -> None:
    labels = np.zeros(10, np.uint16)
    int8 = Int8Evaluation(Predictions(labels, labels), 1.0, 0.7, 0.8)
    own, seen = Size.square(96), Size.square(24)
    row = Retrained("a", "search", "f", 1.0, own, {"mult_adds": 1}, 0.5, (0,), (0.8,), seen, 1.0)
    earlier = replace(row, int8={0: int8})
    stored = Retrained.from_dict(json.loads(json.dumps(earlier.to_dict())))
    assert stored.int8[0].sentence() == (
        "1.0000 (validation 0.7000 before fine-tuning, 0.8000 after)"
    )
    _, (found,) = merged([stored], [replace(row, seeds=(0, 1), accuracies=(0.8, 0.9))])
    assert set(found.int8) == {0}
    assert found.int8_accuracy == 1.0
    (cells,) = retrained_rows([found], [found])
    assert cells[retrained_head([found]).index("As int8")] == "1.0000"
