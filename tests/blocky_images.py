"""Random images with structure: each has blocks of one colour."""

from __future__ import annotations

import torch

from mbsearch.data.batches import Split
from mbsearch.space.image_format import ImageFormat

_BLOCK = 4  # pixels


def blocky_images(count: int, images: ImageFormat, seed: int = 0, classes: int = 7) -> Split:
    """Return a split of random images, all labelled 0."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = images.shape
    shape = (count, channels, -(-height // _BLOCK), -(-width // _BLOCK))
    colours = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    blocks = colours.repeat_interleave(_BLOCK, 2).repeat_interleave(_BLOCK, 3)
    labels = torch.zeros(count, dtype=torch.int64)
    pixels = blocks[..., :height, :width].contiguous()
    known = (0.5,) * channels, (0.29,) * channels
    return Split(pixels, labels, *known, classes, channels=channels)
