"""Search on grey images for a microcontroller, from the photos to files that run, with times.

    python benchmarks/microcontroller.py --cifar10 FOLDER --work FOLDER
    python benchmarks/microcontroller.py --work FOLDER          # Fashion-MNIST, built in

Draws 2,000 training images of CIFAR-10, converts them and the test images to grey, and calls
`mbsearch run --board`, `mbsearch retrain --int8`, `mbsearch export --int8` and `mbsearch evaluate`
with onnxruntime and LiteRT. A folder with an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from wins import CIFAR_PER_CLASS, CIFAR_SEED, drawn_part


def grey_copies(photos: Path, target: Path) -> Path:
    """Write the images of a folder as grey PNG files to another folder."""
    for path in sorted(photos.glob("*/*/*")):
        file = target / path.relative_to(photos).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("L").save(file)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as a folder of train and test")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--board", default="nano33ble")
    parser.add_argument("--trials", default="60")
    parser.add_argument("--finals", default="15m")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--jobs", default="2")
    args = parser.parse_args()
    data, name = "embedded", "fashion"
    if args.cifar10 is not None:
        drawn = drawn_part(args.cifar10, args.work / "colour", CIFAR_PER_CLASS, CIFAR_SEED)
        data, name = str(grey_copies(drawn, args.work / "grey")), "cifar10"
    results, winner = args.work / "results", args.work / f"winner-{name}"
    study, jobs = str(results / name), ("--jobs", args.jobs)
    search = ("--space", "tinyml", "--data", data, "--name", name, "--results", str(results))
    limits = ("--board", args.board, "--trials", args.trials, "--finals", args.finals)
    formats = ("--formats", "yaml,pytorch,onnx,litert-int8", "--int8", "-o", str(winner))
    started = time.monotonic()
    for words in (
        ("run", *search, *limits, *jobs),
        ("retrain", study, "--int8", "--seeds", args.seeds, *jobs),
        ("export", study, *formats),
        ("evaluate", str(winner / "model.int8.onnx"), "--data", data),
        ("evaluate", str(winner / "network_int8.tflite"), "--data", data),
    ):
        print("mbsearch", *words, flush=True)
        before = time.monotonic()
        subprocess.run([sys.executable, "-m", "mbsearch", *words], check=True)
        print(f"{words[0]}: {time.monotonic() - before:.0f} s", flush=True)
    print(f"in all {(time.monotonic() - started) / 60:.1f} min")


if __name__ == "__main__":
    main()
