"""Settings of the trainings before a search: of the supernet and the teacher."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mbsearch.space.yaml_source import StrictModel


class Preparation(StrictModel):
    """Hyperparameters of a training before a search; it uses AdamW, one batch per step."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 5000
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.004
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Supernet(Preparation):
    """Settings for training the supernet, whose weights all candidates share.

    Each step trains one network. It is a baseline in the share `baselines` of the steps, so that
    baselines inherit as well as candidates do, and a random candidate in the others.
    """

    baselines: Annotated[float, Field(ge=0, le=1)] = 0.2


class Teacher(Preparation):
    """Settings for fine-tuning the donor as a teacher, and for distillation from it.

    The teacher's images have `pixels` a side. `temperature` and `weight` are the distillation
    loss's. With a weight of 0 there is no teacher.
    """

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 300
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.05
    pixels: Annotated[int, Field(ge=32, le=4096)] = 96
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    weight: Annotated[float, Field(ge=0, lt=1)] = 0.7
