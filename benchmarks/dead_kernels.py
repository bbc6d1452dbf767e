"""Count dead depthwise kernels and silent channels of V1 and V2 while they are trained.

    python benchmarks/dead_kernels.py results/dead_units AdamW
    python benchmarks/dead_kernels.py results/dead_units SGD

MobileNetV1 and V2 are trained with and without an activation after the last convolution of each
block, on the built-in images. After some epochs the shares of dead units are written to a file of
the recipe's name, one row each. The same command runs the trainings that the file lacks, and prints
the table of the page. `donor_kernels` counts those of EfficientNet-Lite0's ImageNet weights.
docs/experiments/dead_units.md has the results.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from mbsearch.config.families import scaled_reference
from mbsearch.config.recipe import Recipe
from mbsearch.data.sources import load_source
from mbsearch.space.architecture import Architecture
from mbsearch.space.blocks import InvertedResidual, Separable
from mbsearch.training.dead_units import dead_kernels, dead_units, depthwise_convolutions
from mbsearch.training.donors.files import find_donor, load_donor
from mbsearch.training.loop import Training
from mbsearch.training.network import build, skeleton

NETWORKS = {"MobileNetV1": ("mobilenet_v1", 0.25), "MobileNetV2": ("mobilenet_v2", 0.25)}
LAST_LAYERS = ("linear", "activation")
EPOCHS = (1, 2, 5, 10, 20)
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "AdamW": {},
    "SGD": {"optimizer": "sgd", "learning_rate": 0.4, "weight_decay": 0.02},
}
SEEDS = 3
PIXELS, TRAIN_IMAGES, VALIDATION_IMAGES = 32, 1000, 500


@dataclass(frozen=True, slots=True)
class Row:
    """The shares of dead units of one training after some epochs."""

    recipe: str
    network: str
    last_layer: str
    seed: int
    epochs: int
    accuracy: float
    dead_kernels: float
    silent_channels: float

    @property
    def training(self) -> tuple[str, str, str, int]:
        """What identifies the training."""
        return self.recipe, self.network, self.last_layer, self.seed


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Row(
                row["recipe"],
                row["network"],
                row["last_layer"],
                int(row["seed"]),
                int(row["epochs"]),
                *(float(row[key]) for key in ("accuracy", "dead_kernels", "silent_channels")),
            )
            for row in csv.DictReader(file)
        ]


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def network_of(name: str, linear: bool) -> Architecture:
    """Return a reference whose blocks end with a linear convolution, or with an activation."""
    reference, alpha = NETWORKS[name]
    architecture = scaled_reference(reference, alpha, PIXELS, num_classes=10)
    stages = tuple(
        stage.model_copy(update={"linear": linear})
        if isinstance(stage, Separable | InvertedResidual)
        else stage
        for stage in architecture.stages
    )
    return architecture.model_copy(update={"stages": stages})


def train(recipe: str, network: str, last_layer: str, seed: int) -> Iterator[Row]:
    """Train a network, and yield a row after each number of epochs in `EPOCHS`."""
    source, device = load_source("embedded", seed=0), torch.device("cpu")
    settings = Recipe(epochs=EPOCHS[-1], **RECIPES[recipe])
    architecture = network_of(network, linear=last_layer == "linear")
    training = Training(
        network=build(architecture, zero_init_residual=settings.zero_init_residual, seed=seed),
        recipe=settings,
        train_split=source.split("train", PIXELS, TRAIN_IMAGES),
        validation_split=(validation := source.split("validation", PIXELS, VALIDATION_IMAGES)),
        device=device,
        seed=seed,
        flip=source.flippable,
    )
    for epoch in range(1, EPOCHS[-1] + 1):
        accuracy = training.run_epoch().validation_accuracy
        if epoch in EPOCHS:
            dead = dead_units(training.network, validation, device)
            assert dead.kernels is not None, "both families have depthwise convolutions"
            shares = round(dead.kernels, 5), round(dead.channels, 5)
            yield Row(recipe, network, last_layer, seed, epoch, accuracy, *shares)


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows of a Markdown table, means over seeds.

    After the network and its last layers come the seeds and the final accuracy. Then, for each
    number of epochs, come the shares of dead kernels and of silent channels in percent.
    """
    lines = []
    for network, last_layer in product(NETWORKS, LAST_LAYERS):
        found = [row for row in rows if (row.network, row.last_layer) == (network, last_layer)]
        if not found:
            continue
        cells = [network, last_layer, str(len({row.seed for row in found}))]
        cells.append(f"{fmean(row.accuracy for row in found if row.epochs == EPOCHS[-1]):.3f}")
        for epochs in EPOCHS:
            at = [row for row in found if row.epochs == epochs]
            dead, silent = (
                100 * fmean(values)
                for values in ([r.dead_kernels for r in at], [r.silent_channels for r in at])
            )
            cells.append(f"{dead:.1f} / {silent:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def donor_kernels() -> tuple[int, int]:
    """Return the numbers of dead and of all depthwise kernels of the packaged donor."""
    donor = load_donor(find_donor("efficientnet_lite0"))
    network = skeleton(donor.architecture)
    network.load_state_dict(donor.state, assign=True)
    dead = torch.cat([dead_kernels(conv) for conv in depthwise_convolutions(network)])
    return int(dead.sum()), len(dead)


def main() -> None:
    """Run the trainings that a recipe's file lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", choices=tuple(RECIPES))
    arguments = parser.parse_args()
    path = arguments.folder / f"{arguments.recipe.lower()}.csv"
    torch.set_num_threads(1)
    rows = read_rows(path)
    done = {row.training for row in rows}
    for seed in range(SEEDS):
        for network, last_layer in product(NETWORKS, LAST_LAYERS):
            if (arguments.recipe, network, last_layer, seed) not in done:
                rows += train(arguments.recipe, network, last_layer, seed)
                write_rows(path, rows)
                print(rows[-1], flush=True)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
