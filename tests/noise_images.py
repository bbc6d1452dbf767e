"""Write image folders with two classes that are easy to learn: light and dark noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_noise_images(folder: Path, counts: Mapping[str, int]) -> Path:
    """Write images of 16 x 16 pixels, with `counts` images per class in each split."""
    rng = np.random.default_rng(0)
    for part, count in counts.items():
        for level, name in ((40, "dark"), (160, "light")):
            home = folder / part / name
            home.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(level, level + 60, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(home / f"{i}.png")
    return folder
