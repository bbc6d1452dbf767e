"""Random images with structure: each has blocks of one colour."""

from __future__ import annotations

import torch

from mbsearch.data.batches import Split

_BLOCK = 4  # pixels


def blocky_images(count: int, side: int, seed: int = 0, classes: int = 7) -> Split:
    """Return a split of random images, all labelled 0."""
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-side // _BLOCK)
    shape = (count, 3, blocks, blocks)
    colours = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    images = colours.repeat_interleave(_BLOCK, 2).repeat_interleave(_BLOCK, 3)[..., :side, :side]
    labels = torch.zeros(count, dtype=torch.int64)
    return Split(images.contiguous(), labels, (0.5,) * 3, (0.29,) * 3, classes)
