"""The training recipe: optimizer, learning-rate schedule and augmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mbsearch.space.yaml_source import StrictModel


class Recipe(StrictModel):
    """Hyperparameters of a training, apart from the network, images and seed.

    The training passes `epochs` times over its images. The learning rate rises linearly over the
    share `warmup` of all steps and falls to zero along a cosine. With ``class_weights: auto`` the
    loss weights each image by the inverse frequency of its class in the training images.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 4
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.012
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Annotated[
        Literal["none", "auto"],
        Field(exclude_if=lambda given: given == "none"),  # so are recipes of earlier studies
    ] = "none"
    zero_init_residual: bool = True
    flip: bool | None = None  # None: the data set's default (digits are not mirrored)
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    cutout: Annotated[float, Field(ge=0, le=1)] = 0.0
