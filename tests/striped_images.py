"""Striped images, and a small network and recipe that learn them."""

from __future__ import annotations

import torch

from mbsearch.config.recipe import Recipe
from mbsearch.data.batches import Split
from mbsearch.space.architecture import Architecture, Head, Stem
from mbsearch.space.blocks import InvertedResidual
from mbsearch.space.size import Size

SMALL = Architecture(
    resolution=Size.square(64),
    stem=Stem(channels=8),
    stages=(
        InvertedResidual(block="inverted_residual", channels=8, repeats=2, expansion=2),
        InvertedResidual(block="inverted_residual", channels=16, stride=2, expansion=2),
    ),
    head=Head(channels=32),
)


RECIPE = Recipe(epochs=4, batch_size=32, shift=0.1, cutout=0.2, label_smoothing=0.1)


def stripes(count: int, seed: int) -> Split:
    """Return noisy images with stripes, whose direction and width are the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    images = torch.randint(0, 150, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    wide, narrow = torch.arange(16) // 4 % 2 * 100, torch.arange(16) % 2 * 100
    for label, stripe in enumerate((wide, narrow, wide[:, None], narrow[:, None])):
        images[labels == label] += stripe.to(torch.uint8)
    return Split(images, labels, (0.4,) * 3, (0.2,) * 3, 4)


TRAIN, VALIDATION = stripes(256, 0), stripes(120, 1)
