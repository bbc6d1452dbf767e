"""How an image file becomes the input of an exported network, as data beside the network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from mbsearch.data.readers import Pixels, Pool, resized
from mbsearch.data.splits import Rows
from mbsearch.export.exportable import Exportable
from mbsearch.space.image_format import Fit, ImageFormat
from mbsearch.space.size import Size
from mbsearch.space.yaml_source import StrictModel, parse_document, read_document

PREPROCESSING = "preprocessing"
"""Key of the preprocessing in the metadata of an ONNX file."""
PREPROCESSING_FILE = "preprocessing.json"

_Side = Annotated[int, Field(ge=1)]
_Mean = Annotated[tuple[float, ...], Field(strict=False)]
_Deviation = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False)]
# The metadata of files of earlier versions is text.
_FORMER = re.compile(r"mean \((?P<mean>[^)]+)\), std \((?P<std>[^)]+)\)")
_FORMER_SIDES = re.compile(r"resized to (?P<height>\d+) x (?P<width>\d+) pixels")
_FORMER_GREY = "grey as three equal channels"


class Preprocessing(StrictModel):
    """Size, colours, mean and standard deviation of a network's input images.

    Images are upright, 8 bits, transparent pixels on white, resized by a bilinear filter with
    antialiasing. `fit` is how one of another aspect ratio gets the size. `channels` is the number
    of the input; grey images are repeated. Mean and deviation are on the scale [0, 1], per channel.
    """

    height: _Side
    width: _Side
    channels: Literal[1, 3]
    colours: Literal["rgb", "grey"]
    fit: Fit
    mean: _Mean
    std: _Deviation

    @model_validator(mode="after")
    def _one_number_per_channel(self) -> Preprocessing:
        for key, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != self.channels:
                raise ValueError(f"{self.channels} numbers for {key}, got {len(numbers)}")
        return self

    @staticmethod
    def of(exportable: Exportable) -> Preprocessing | None:
        """Return the preprocessing of a network; None if its training images are unknown."""
        known = exportable.normalisation
        if known is None:
            return None
        images = exportable.images
        return Preprocessing(
            height=images.size.height,
            width=images.size.width,
            channels=1 if images.channels == 1 else 3,
            colours="grey" if known.grey or images.channels == 1 else "rgb",
            fit=images.fit,
            mean=known.mean,
            std=known.std,
        )

    @staticmethod
    def read(path: Path) -> Preprocessing:
        """Read a ``preprocessing.json``.

        Raises:
            SpecError: it cannot be read, or a key is missing, unknown or invalid.
        """
        document = read_document(path)
        return document.validate(Preprocessing, document.data)

    @staticmethod
    def in_notes(notes: Mapping[str, str], name: str) -> Preprocessing | None:
        """Return the preprocessing in the metadata of the ONNX file `name`; None without any.

        Raises:
            SpecError: it is invalid.
        """
        if PREPROCESSING in notes:
            document = parse_document(notes[PREPROCESSING], f"{name}: {PREPROCESSING}")
            return document.validate(Preprocessing, document.data)
        numbers = _FORMER.search(notes.get("normalisation", ""))
        sides = _FORMER_SIDES.search(notes.get("input", ""))
        if numbers is None or sides is None:
            return None
        return Preprocessing(
            height=int(sides["height"]),
            width=int(sides["width"]),
            channels=3,
            colours="grey" if _FORMER_GREY in notes["input"] else "rgb",
            fit="stretch",
            mean=tuple(map(float, numbers["mean"].split(","))),
            std=tuple(map(float, numbers["std"].split(","))),
        )

    def scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """Return the factor and the summand per channel that normalise bytes, as in training."""
        scale = 1 / (255 * torch.tensor(self.std))
        return scale, -255 * scale * torch.tensor(self.mean)

    def normalised(self, pixels: Pixels) -> Tensor:
        """Return images (N, H, W, C) of bytes as normalised floats (N, C, H, W)."""
        scale, offset = self.scale_and_offset()
        images = torch.from_numpy(pixels).float() * scale + offset
        return images.permute(0, 3, 1, 2).contiguous()

    def read_images(self, pool: Pool, rows: Rows) -> Iterator[Pixels]:
        """Yield each image of a pool as bytes (H, W, C), decoded and resized as in training.

        Raises:
            DataError: an image cannot be read; the message names it.
        """
        depth = 1 if self.colours == "grey" else self.channels
        images = ImageFormat(Size(self.height, self.width), self.channels, self.fit)
        for (image,) in resized(pool, rows, (images,), depth):
            yield _channels_last(image, self.channels)


def _channels_last(image: Pixels, channels: int) -> Pixels:
    """Return an image (C, H, W) as (H, W, channels), one channel repeated."""
    repeated = np.broadcast_to(image, (channels, *image.shape[1:]))
    return np.array(repeated.transpose(1, 2, 0), order="C")  # writable, as torch wants it
