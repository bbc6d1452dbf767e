"""Measure the int8 loss of a reference on test images, before and after fine-tuning for int8.

python benchmarks/int8.py --family mobilenet_v1 --alpha 0.25 --resolution 96 --seeds 3
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from mbsearch.config.families import scaled_reference
from mbsearch.config.proxy_settings import EMBEDDED
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.settings import Settings
from mbsearch.data.sources import load_source
from mbsearch.execution.protocol import Task
from mbsearch.export.quantization import int8_predictions
from mbsearch.study.training_files import WEIGHTS
from mbsearch.training.devices import choose_device, prepare_worker
from mbsearch.training.long_training import FinalTraining
from mbsearch.training.loop import compile_ahead
from mbsearch.training.network import build
from mbsearch.training.weights import load_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=EMBEDDED, help="image folder")
    parser.add_argument("--family", default="mobilenet_v1", help="reference")
    parser.add_argument("--alpha", type=float, default=0.25, help="width multiplier")
    parser.add_argument("--resolution", type=int, default=96, help="resolution of the network")
    parser.add_argument("--seeds", type=int, default=3, help="number of trainings")
    parser.add_argument("--epochs", type=int, default=20, help="of a training")
    parser.add_argument("--folder", type=Path, help="keeps trainings, to resume from them")
    given = parser.parse_args()
    prepare_worker()
    compile_ahead(choose_device("cpu"))
    source = load_source(given.data, seed=0)
    network = scaled_reference(given.family, given.alpha, given.resolution, source.num_classes)
    recipe = Retrain(epochs=given.epochs, quantization_aware=True)
    scale = Settings().final_scale(given.data)
    folder = given.folder or Path(tempfile.mkdtemp())
    training = FinalTraining(recipe, scale, given.data, folder, int8=int8_predictions)
    rows = []
    for seed in range(given.seeds):
        task = Task(network, seed)
        found = training.evaluate(task).evaluation
        assert found.int8 is not None
        trained = build(network)
        load_weights(trained, training.home(task) / WEIGHTS)
        images = replace(network.image_format, size=found.pixels)
        (plain,) = int8_predictions(network, trained, source, [source.split("test", images)])
        rows.append((found.accuracy, float(plain.correct.mean()), found.int8.accuracy))
        print(f"seed {seed}: {_line(rows[-1])}", flush=True)
    print(f"mean: {_line(tuple(map(fmean, zip(*rows, strict=True))))}")


def _line(accuracies: tuple[float, ...]) -> str:
    float32, before, after = accuracies
    return (
        f"test accuracy {float32:.4f}, as int8 {before:.4f} ({100 * (before - float32):+.2f} "
        f"points), after fine-tuning {after:.4f} ({100 * (after - float32):+.2f} points)"
    )


if __name__ == "__main__":
    main()
