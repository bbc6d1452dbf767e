"""Settings of retraining: the full recipe, evaluated on test images."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field

from mbsearch.config.recipe import Recipe

_TUNED_EPOCHS, _TUNED_RATE = 0.25, 0.1  # shares of the epochs and of the learning rate
_FEW_IMAGES = 5_000  # training images, below which the default batch is smaller


class Retrain(Recipe):
    """The full recipe: a long training on all images outside the test split.

    `ema_decay` averages the weights over the steps and scores the average; in step n the factor is
    at most (1 + n) / (10 + n). `mixup` is the parameter of the Beta distribution that mixes pairs
    of images (arXiv 1710.09412). At 0 both are off. `resolution_scale` is by default 1, and on the
    built-in images the proxy's. Below 5,000 training images the default batch size and rates are
    halved. `tuning_rate` is the learning rate of networks that inherit a donor's
    weights. With `quantization_aware`, retrained networks are also fine-tuned with the rounding
    errors of int8.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    resolution_scale: Annotated[float, Field(gt=0, le=1)] | None = None
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    tuning_rate: Annotated[float, Field(gt=0, le=100)] = 0.004
    quantization_aware: bool = False

    def fine_tuning(self) -> Self:
        """Return the recipe of quantisation-aware fine-tuning: short, at a low learning rate."""
        changes = {
            "epochs": max(1, round(self.epochs * _TUNED_EPOCHS)),
            "learning_rate": self.learning_rate * _TUNED_RATE,
        }
        return self.model_copy(update=changes)

    def facts(self) -> dict[str, Any]:
        """Return the settings that a float32 training depends on, as plain data."""
        return self.model_dump(mode="json", exclude={"seeds", "quantization_aware"})

    def sized(self, images: int) -> Self:
        """Return the recipe adapted to this number of training images.

        Few images mean few steps. Below 5,000 images the default batch size is therefore halved,
        and the default learning rates with it (docs/proxy.md).
        """
        if images >= _FEW_IMAGES or "batch_size" in self.model_fields_set:
            return self
        changes: dict[str, Any] = {"batch_size": self.batch_size // 2}
        for rate in ("learning_rate", "tuning_rate"):
            if rate not in self.model_fields_set:
                changes[rate] = getattr(self, rate) / 2
        return self.model_copy(update=changes)
