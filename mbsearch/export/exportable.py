"""A network to export, and the type of the function that runs an exported file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mbsearch.export.source_text import constant, literal
from mbsearch.space.architecture import Architecture

LABELS = "labels.txt"
"""File of class names in the order of the outputs, one a line."""
Runner = Callable[[Tensor], Tensor]
"""Runs an exported network: float images (N, 3, H, W) to logits (N, num_classes)."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of input images per channel, on the scale [0, 1].

    `grey` is whether the network was trained on grey images, as three equal channels; `deep`
    whether some had more than 8 bits, which were scaled to 8.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    grey: bool = False
    deep: bool = False

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
    is the side of the images trained on; None means the architecture's resolution. `class_names`
    are in the order of the outputs, empty if they are unknown.
    """

    architecture: Architecture
    module: nn.Module
    title: str
    normalisation: Normalisation | None = None
    pixels: int | None = None
    class_names: tuple[str, ...] = ()

    @property
    def side(self) -> int:
        """Side of the input images in pixels."""
        return self.pixels or self.architecture.resolution

    @property
    def input_text(self) -> str:
        """Describe how an image file becomes an input, except the normalisation."""
        colours = "RGB in this order"
        if self.normalisation is not None and self.normalisation.grey:
            colours = "grey as three equal channels"
        return (
            f"{colours}, upright, transparent pixels on white; the whole image resized to "
            f"{self.side} x {self.side} pixels without cropping, bilinear with antialiasing "
            "(Pillow's BILINEAR)"
        )

    def constants(self) -> str:
        """Format the normalisation and the class names as lines of Python; empty if unknown."""
        lines = "" if self.normalisation is None else self.normalisation.constants()
        if self.class_names:
            names = [literal(name) for name in self.class_names]
            lines += "\n".join(constant("CLASSES", names)) + "\n"
        return lines

    def class_list(self, *, ascii_only: bool = True) -> str:
        """Format the class names as JSON."""
        return json.dumps(self.class_names, ensure_ascii=ascii_only)
