"""A network to export, and the type of the function that runs an exported file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from mbsearch.data.readers import PADDING
from mbsearch.errors import ExportError
from mbsearch.export.int8_network import Int8Network
from mbsearch.export.source_text import constant, literal
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import Fit, ImageFormat
from mbsearch.space.size import Size

LABELS = "labels.txt"
"""File of class names in the order of the outputs, one a line."""
Runner = Callable[[Tensor], Tensor]
"""Runs an exported network: float images (N, C, H, W) to logits (N, num_classes)."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of input images per channel, on the scale [0, 1].

    `grey` is whether the network was trained on grey images, three channels of which are equal;
    `deep` whether some had more than 8 bits, which were scaled to 8.
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


_FITTED: dict[Fit, str] = {
    "stretch": "the whole image resized to {pixels} without cropping",
    "crop": "cropped to the centre of the right aspect ratio and resized to {pixels}",
    "pad": f"resized without distortion and centred on grey ({PADDING}) of {{pixels}}",
}


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.6g}' for value in values)}{',' * (len(values) == 1)})"


@dataclass(frozen=True, slots=True)
class Exportable:
    """A network to export: its architecture, and its module in evaluation mode.

    `title` is one sentence. `normalisation` is None if the training images are unknown. `pixels`
    is the size of the images trained on; None means the architecture's resolution. `class_names`
    are in the order of the outputs, empty if they are unknown. `int8` is the quantised network,
    None without training images that calibrate it.
    """

    architecture: Architecture
    module: nn.Module
    title: str
    normalisation: Normalisation | None = None
    pixels: Size | None = None
    class_names: tuple[str, ...] = ()
    int8: Int8Network | None = None

    def required_int8(self) -> Int8Network:
        """Return the quantised network.

        Raises:
            ExportError: there is none.
        """
        if self.int8 is None:
            raise ExportError("int8 files: expected training images for calibration, got none")
        return self.int8

    @property
    def images(self) -> ImageFormat:
        """Format of the input images."""
        own = self.architecture.image_format
        return own if self.pixels is None else replace(own, size=self.pixels)

    @property
    def input_text(self) -> str:
        """Describe how an image file becomes an input, except the normalisation."""
        return (
            f"{self.colours}, upright, transparent pixels on white; "
            f"{_FITTED[self.images.fit].format(pixels=self._pixels_text)}, "
            "bilinear with antialiasing (Pillow's BILINEAR)"
        )

    @property
    def colours(self) -> str:
        """Describe the channels of an input."""
        match self.images.channels:
            case 1:
                return "grey"
            case 3 if self.normalisation is not None and self.normalisation.grey:
                return "grey as three equal channels"
            case 3:
                return "RGB in this order"
            case channels:
                return f"{channels} channels"

    @property
    def _pixels_text(self) -> str:
        """Describe the size of an input, as ``96 x 160 pixels (height x width)``."""
        size = self.images.size
        order = "" if size.is_square else " (height x width)"
        return f"{size.height} x {size.width} pixels{order}"

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
