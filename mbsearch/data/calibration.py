"""Training images that calibrate the ranges of an int8 network's maps."""

from __future__ import annotations

from mbsearch.data.batches import Split
from mbsearch.data.sources import ImageSource
from mbsearch.space.image_format import ImageFormat

_IMAGES = 256


def calibration_images(source: ImageSource, images: ImageFormat) -> Split:
    """Return training images of all classes, a few hundred.

    Raises:
        DataError: they cannot be read.
    """
    return source.split("train", images, max(_IMAGES, source.num_classes))
