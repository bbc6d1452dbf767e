"""Kernel that makes a normalized float32 batch from uint8 images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mbsearch.accel.kernels.jit import Values, compiled

Places = NDArray[np.int64]


@compiled
def normalize(
    images: NDArray[np.uint8],
    chosen: Places,
    rows: Places,
    columns: Places,
    scale: Values,
    offset: Values,
    out: Values,
) -> None:
    """Write ``image * scale + offset`` for the chosen images to `out` (B, H, W, C).

    The images are (N, C, H, W). Pixels are read from the given rows (B, H) and columns (B, W) of an
    image. A single channel, scale or offset is used for all channels of `out`.
    """
    count, height, width, depth = out.shape
    for b in range(count):
        for c in range(depth):
            image = images[chosen[b], min(c, images.shape[1] - 1)]
            factor, shift = scale[min(c, len(scale) - 1)], offset[min(c, len(offset) - 1)]
            for i in range(height):
                for j in range(width):
                    value = np.float32(image[rows[b, i], columns[b, j]])
                    out[b, i, j, c] = value * factor + shift
