"""What only a GPU shows; skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from fused_layers import depthwise, pointwise
from striped_images import RECIPE, SMALL, TRAIN, VALIDATION, stripes
from torch import nn

from mbsearch.config.recipe import Recipe
from mbsearch.config.retrain_settings import Retrain
from mbsearch.training.long_training import LongTraining
from mbsearch.training.loop import Training
from mbsearch.training.network import build

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")


class Plain(Training):
    """The same training without recorded steps."""

    @property
    def repeats(self) -> bool:
        return False


def training(
    kind: type[Training] = Training, recipe: Recipe = RECIPE, device: torch.device = GPU
) -> Training:
    network = build(SMALL, num_classes=4, zero_init_residual=True)
    return kind(network, recipe, TRAIN, VALIDATION, device, seed=0, flip=False)


def losses(trained: Training, epochs: int = RECIPE.epochs) -> list[float]:
    while len(trained.curve) < epochs:
        trained.run_epoch()
    return [epoch.train_loss for epoch in trained.curve]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_are_those_of_torch(kernel: int, stride: int) -> None:
    layers = (depthwise(24, (kernel,) * 2, (stride,) * 2), pointwise(24, 40))
    for layer in (each.to(GPU) for each in layers):
        x = torch.randn(4, 24, 9, 9, device=GPU).to(memory_format=torch.channels_last)
        x.requires_grad_()
        y = layer(x)
        gradient = torch.randn_like(y)
        found = torch.autograd.grad(y, (x, layer.weight), gradient)
        expected = nn.Conv2d.forward(layer, x)
        torch.testing.assert_close(y, expected, rtol=1e-2, atol=1e-2)  # cuDNN may use TF32
        wanted = torch.autograd.grad(expected, (x, layer.weight), gradient)
        torch.testing.assert_close(found, wanted, rtol=1e-2, atol=3e-2)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_recorded_steps_equal_plain_steps(optimizer: str) -> None:
    rate = 0.05 if optimizer == "sgd" else RECIPE.learning_rate
    recipe = RECIPE.model_copy(update={"optimizer": optimizer, "learning_rate": rate})
    replayed, plain = losses(training(recipe=recipe)), losses(training(Plain, recipe))
    assert replayed == pytest.approx(plain, rel=0.03)  # sums in bfloat16 have no fixed order
    assert replayed[-1] < 0.9 * replayed[0]


def test_a_gpu_trains_as_a_cpu_does() -> None:
    assert losses(training())[-1] == pytest.approx(
        losses(training(device=torch.device("cpu")))[-1], rel=0.1
    )


@pytest.mark.parametrize("first", ["cpu", "cuda"])
def test_a_training_resumes_from_a_checkpoint_of_either_device(first: str) -> None:
    whole = losses(training())
    begun = training(device=torch.device(first))
    losses(begun, 1)
    resumed = training()
    resumed.restore(begun.checkpoint())
    assert losses(resumed) == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize("mixup", [0.0, 0.2])
def test_a_long_training_averages_and_mixes(mixup: float) -> None:
    recipe = Retrain(epochs=4, batch_size=32, learning_rate=0.01, mixup=mixup, ema_decay=0.9)
    network = build(SMALL, num_classes=4)
    trained = LongTraining(network, recipe, stripes(256, 0), None, GPU, 0, flip=False)
    assert losses(trained, 4)[-1] < losses(trained, 4)[0]
    average, own = trained.scored.parameters(), trained.network.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(average, own, strict=True))
    assert isinstance(trained.scored, nn.Module)
