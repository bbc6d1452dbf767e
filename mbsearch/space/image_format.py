"""The format of the images that a network takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mbsearch.space.size import Size

Fit = Literal["crop", "pad", "stretch"]
COLOURS = 3


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """Size and channels of images, and how an image of another aspect ratio fits the size.

    ``stretch`` resizes the whole image, which distorts it. ``crop`` keeps the largest centred part
    of the right aspect ratio. ``pad`` resizes the whole image without distortion, on mid-grey. With
    one channel the images are grey; with three, grey images have three equal channels.
    """

    size: Size
    channels: int = COLOURS
    fit: Fit = "stretch"

    @classmethod
    def of(cls, described: ImageFormat | int) -> ImageFormat:
        """Return a format; an integer is the side of square colour images."""
        return described if isinstance(described, ImageFormat) else cls(Size.square(described))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (channels, height, width) of one image."""
        return self.channels, self.size.height, self.size.width

    def scaled(self, share: float) -> ImageFormat:
        """Return the format with both sides multiplied by `share`."""
        return replace(self, size=self.size.scaled(share))

    def __str__(self) -> str:
        """Return the differences from square colour images, as ``96x160, crop``."""
        plural = "" if self.channels == 1 else "s"
        channels = "" if self.channels == COLOURS else f", {self.channels} channel{plural}"
        return f"{self.size}{channels}" + ("" if self.fit == "stretch" else f", {self.fit}")
