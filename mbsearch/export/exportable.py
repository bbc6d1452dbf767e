"""A network to export, and the type of the function that runs an exported file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mbsearch.space.architecture import Architecture

Runner = Callable[[Tensor], Tensor]
"""Runs an exported network: float images (N, 3, H, W) to logits (N, num_classes)."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of input images per channel, on the scale [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"(pixel / 255 - mean) / std, mean {_numbers(self.mean)}, std {_numbers(self.std)}"

    def constants(self) -> str:
        """Return the normalisation as two lines of Python source."""
        return f"MEAN = {_numbers(self.mean)}\nSTD = {_numbers(self.std)}\n"


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


@dataclass(frozen=True, slots=True)
class Exportable:
    """A network to export: its architecture, and its module in evaluation mode.

    `title` is one sentence. `normalisation` is None if the training images are unknown. `pixels`
    is the side of the images trained on; None means the architecture's resolution.
    """

    architecture: Architecture
    module: nn.Module
    title: str
    normalisation: Normalisation | None = None
    pixels: int | None = None

    @property
    def side(self) -> int:
        """Side of the input images in pixels."""
        return self.pixels or self.architecture.resolution
