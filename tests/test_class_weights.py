"""`class_weights: auto` weights the loss so that all classes count the same, however rare."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.settings import Settings
from mbsearch.config.specification import load_specification
from mbsearch.data.batches import Batch, Split
from mbsearch.study.identity import scoring_identity
from mbsearch.training.long_training import LongTraining
from mbsearch.training.loop import Training, balancing_weights, evaluated

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 0.0, -1.0]])


class Constant(nn.Module):
    """A network that gives every image the same logits."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(LOGITS.clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


def split(counts: tuple[int, ...]) -> Split:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.zeros((len(labels), 1, 4, 4), dtype=torch.uint8)
    return Split(images, labels, (0.5,), (0.2,), len(counts))


def loss(recipe: Proxy | Retrain, part: Split) -> float:
    """Loss of all images of a split as one batch."""
    if isinstance(recipe, Retrain):
        training: Training = LongTraining(Constant(), recipe, part, None, CPU, 0, flip=False)
    else:
        training = Training(Constant(), recipe, part, None, CPU, 0, flip=False)
    return training.loss(Batch(part.images.float(), part.labels, None)).item()


@pytest.mark.parametrize("recipe", [Proxy, Retrain])
def test_classes_count_the_same(recipe: type[Proxy | Retrain]) -> None:
    def of(weights: Literal["none", "auto"], counts: tuple[int, ...]) -> float:
        return loss(recipe(class_weights=weights, label_smoothing=0.0), split(counts))

    per_class = -LOGITS.log_softmax(1)[0]
    assert of("auto", (90, 8, 2)) == pytest.approx(float(per_class.mean()), rel=1e-5)
    shares = torch.tensor([0.9, 0.08, 0.02])
    assert of("none", (90, 8, 2)) == pytest.approx(float(shares @ per_class), rel=1e-5)
    assert of("auto", (5, 5, 5)) == pytest.approx(of("none", (5, 5, 5)), rel=1e-5)


def test_a_balanced_validation_loss_is_the_mean_over_classes() -> None:
    part = split((90, 8, 2))
    per_class = -LOGITS.log_softmax(1)[0]
    balanced, found = evaluated(Constant(), part, CPU, balanced=True)
    assert balanced == pytest.approx(float(per_class.mean()), rel=1e-5)
    assert found.correct.mean() == pytest.approx(0.9)
    plain, _ = evaluated(Constant(), part, CPU)
    assert plain < balanced


def test_weights_have_a_mean_of_1_over_images() -> None:
    part = split((7, 0, 3))
    weights = balancing_weights(part)
    assert weights[1] == 0
    assert weights[part.labels].mean() == pytest.approx(1.0)
    assert 7 * weights[0] == pytest.approx(float(3 * weights[2]))


def test_recipes_without_weights_are_those_of_earlier_studies() -> None:
    space = load_specification("tiny")
    weighted = space.with_settings(
        {"proxy": space.settings.proxy.model_copy(update={"class_weights": "auto"})}
    )
    assert "class_weights" not in scoring_identity(space, "key")["proxy"]
    assert scoring_identity(weighted, "key")["proxy"]["class_weights"] == "auto"
    assert "class_weights" not in Settings().retrain.model_dump(mode="json")
    assert Retrain(class_weights="auto").model_dump(mode="json")["class_weights"] == "auto"
