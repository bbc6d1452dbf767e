"""Pack the embedded data set: a balanced part of Fashion-MNIST in one xz file.

    python scripts/make_embedded.py [FOLDER]

FOLDER holds the four official ``*-ubyte.gz`` files (Debian: the package dataset-fashion-mnist puts
them in /usr/share/datasets/fashion-mnist); without it torchvision downloads them. 1,000 of the
official training images of each class are drawn by a fixed seed; all 10,000 official test images
are included. Images are sorted by class, so labels are not stored. Row, column and pixel-plane
differences before xz made the file larger, so there is no filter.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import sys
import tempfile
from pathlib import Path

import numpy as np
from torchvision.datasets import FashionMNIST

SEED = 2018
PER_CLASS = {"train": 1000, "test": 1000}
TARGET = Path(__file__).parents[1] / "mbsearch" / "data" / "embedded" / "fashion_mnist.xz"


def draw(dataset: FashionMNIST, per_class: int) -> bytes:
    """Return the pixels of `per_class` images of each class, sorted by class."""
    labels, rng = dataset.targets.numpy(), np.random.default_rng(SEED)
    rows = [
        np.sort(rng.choice(np.flatnonzero(labels == label), per_class, replace=False))
        for label in range(len(dataset.classes))
    ]
    pixels: bytes = dataset.data.numpy()[np.concatenate(rows)].tobytes()
    return pixels


def main() -> None:
    """Write the file and print its size and SHA-256."""
    with tempfile.TemporaryDirectory() as root:
        if len(sys.argv) > 1:
            raw = Path(root) / "FashionMNIST" / "raw"
            raw.mkdir(parents=True)
            for file in Path(sys.argv[1]).glob("*-ubyte.gz"):
                (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        pixels = b"".join(
            draw(FashionMNIST(root, train=part == "train", download=True), count)
            for part, count in PER_CLASS.items()
        )
    packed = lzma.compress(pixels, preset=9 | lzma.PRESET_EXTREME)
    TARGET.write_bytes(packed)
    print(f"{TARGET}: {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    main()
