"""Quantisation-aware fine-tuning: its rounding is that of the int8 file, and it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exportable_network import exportable
from striped_images import RECIPE, SMALL, TRAIN, VALIDATION
from torch import nn

from mbsearch.data.batches import Split, batches
from mbsearch.export.graphs import INT8, run_onnx, write_onnx
from mbsearch.export.quantization import quantise
from mbsearch.space.architecture import Architecture
from mbsearch.training.network import build
from mbsearch.training.quantization_aware import (
    QuantizationAwareTraining,
    calibrate,
    rounded_network,
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
    rounded.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


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
    rounded = rounded_network(network.module, CPU)
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
