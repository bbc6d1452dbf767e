"""Compare how long two versions of mbsearch take to prepare a folder of JPEGs, in turns.

    python benchmarks/images.py --images 20000 --other ../earlier-mbsearch

Preparing means what happens before the first training: list the folder, check the files, compute
the statistics, and write the training and validation images at some resolutions.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)
HERE = Path(__file__).parent.parent

PREPARE = """
import resource, sys, time
try:
    from mbsearch.data.sources import load_source
except ModuleNotFoundError:  # earlier versions
    from mbsearch.training.sources import load_source

started = time.perf_counter()
source = load_source(sys.argv[1], seed=0)
source.statistics()
sides = [int(side) for side in sys.argv[2:]]
if hasattr(source, "prepare"):
    source.prepare("train", sides)
    source.prepare("validation", sides)
for side in sides:
    source.split("train", side)
    source.split("validation", side)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
"""


def write_photos(folder: Path, count: int) -> None:
    """JPEGs with the detail of photographs: noise of several scales."""
    rng = np.random.default_rng(0)
    width, height = SIZE
    for i in range(count):
        photo = np.zeros((height, width, 3))
        for scale, weight in ((40, 70), (8, 40), (2, 15)):
            small = rng.normal(size=(height // scale + 1, width // scale + 1, 3)) * weight
            bytes_ = (small + 128).clip(0, 255).astype(np.uint8)
            photo += np.asarray(Image.fromarray(bytes_).resize(SIZE, Image.Resampling.BICUBIC))
            photo -= 128
        home = folder / f"class_{i % 10}"
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray((photo + 128).clip(0, 255).astype(np.uint8)).save(
            home / f"{i:06}.jpg", quality=90
        )


def prepare(version: Path, photos: Path, sides: list[int]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and MiB of one preparation with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PYTHONPATH": str(version), "MBSEARCH_CACHE": cache}
        command = [sys.executable, "-c", PREPARE, str(photos), *map(str, sides)]
        out = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, cwd=cache
        ).stdout
    wall, cpu, memory = map(float, out.split())
    return wall, cpu, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000, help="JPEGs to generate: %(default)s")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[96], help="resolutions: %(default)s"
    )
    parser.add_argument("--other", type=Path, help="folder of another version of mbsearch")
    parser.add_argument("--repeats", type=int, default=3, help="turns: %(default)s")
    parser.add_argument("--photos", type=Path, help="folder of the JPEGs, to keep and use again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        photos = arguments.photos or Path(temporary) / "photos"
        if not photos.exists():
            write_photos(photos, arguments.images)
        versions = {"this": HERE}
        if arguments.other is not None:
            versions["other"] = arguments.other.resolve()
        print("version  wall s  CPU s  MiB")
        for _ in range(arguments.repeats):
            for name, version in versions.items():
                wall, cpu, memory = prepare(version, photos, arguments.sides)
                print(f"{name:7}  {wall:6.1f}  {cpu:5.1f}  {memory:.0f}", flush=True)


if __name__ == "__main__":
    main()
