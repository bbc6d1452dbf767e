"""What is to be written, and what a file gives when it is read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mbsearch.space.architecture import Architecture

Runner = Callable[[Tensor], Tensor]
"""Runs a written network: float images (N, 3, H, W) in, logits (N, num_classes) out."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and deviation per channel of the images that a network expects, on the scale [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        return f"(pixel / 255 - mean) / std, mean {_numbers(self.mean)}, std {_numbers(self.std)}"

    def constants(self) -> str:
        """Two lines of Python."""
        return f"MEAN = {_numbers(self.mean)}\nSTD = {_numbers(self.std)}\n"


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)})"


@dataclass(frozen=True, slots=True)
class Job:
    """A network to write: its architecture, its module in evaluation mode, and what to say of it.

    `title` is one sentence. Without `normalisation` it is not known how images were scaled, and
    without `pixels` the images have the architecture's resolution: weights may be for another.
    """

    architecture: Architecture
    network: nn.Module
    title: str
    normalisation: Normalisation | None = None
    pixels: int | None = None

    @property
    def side(self) -> int:
        """Of the images that the files take, in pixels."""
        return self.pixels or self.architecture.resolution
