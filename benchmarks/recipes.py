"""Compare proxy recipes by rank agreement and time, on NAS-Bench-Macro with CIFAR-10 images.

    python benchmarks/recipes.py nas_bench_macro_cifar10.json --data CIFAR_FOLDER \\
        --supernet results/truth/mbsearch-0/supernet.pt

Random networks are trained with every recipe, in one process with one thread. They are ranked by
the training loss of the last epoch, by validation loss, by validation accuracy, and by both, as in
the model of a search. The table holds Kendall's tau with the true accuracy, over all networks and
as the mean over thirds of the costs, and CPU seconds per network. The time of the supernet's
training is not included (any run of truth.py leaves a supernet of the same seed).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import nas_bench_macro
import numpy as np
import torch

from mbsearch.analysis.calibration import denoised
from mbsearch.analysis.rank_agreement import tau_or_zero, taus_in_thirds
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.execution.protocol import Task
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import Evaluation
from mbsearch.training.devices import prepare_worker
from mbsearch.training.proxy import ProxyTraining

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "50 steps at 0.002 (shipped)": {},
    "25 steps": {"train_images": 1600},
    "100 steps": {"train_images": 6400},
    "200 steps": {"train_images": 12800},
    "rate 0.001": {"learning_rate": 0.001},
    "rate 0.004": {"learning_rate": 0.004},
    "batches of 32": {"batch_size": 32},
    "batches of 128": {"batch_size": 128},
    "SGD at 0.02": {"optimizer": "sgd", "learning_rate": 0.02},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "no augmentation": {"flip": False, "shift": 0.0},
    "1,000 validation images": {"validation_images": 1000},
}
FRESH: Mapping[str, Mapping[str, Any]] = {
    "fresh weights, 50 steps": {},
    "fresh weights, 200 steps at 0.004": {"train_images": 12800, "learning_rate": 0.004},
    "fresh weights, the same without zero init": {
        "train_images": 12800,
        "learning_rate": 0.004,
        "zero_init_residual": False,
    },
}
SCORES = ("training loss", "validation loss", "accuracy", "accuracy denoised by its loss")


def scores(outcomes: Sequence[Evaluation]) -> list[list[float]]:
    """Return the scores of one recipe's networks, in the order of `SCORES`."""
    accuracies = [each.accuracy for each in outcomes]
    losses = [each.validation_loss for each in outcomes]
    return [
        [-each.curve[-1].train_loss for each in outcomes],
        [-loss for loss in losses],
        accuracies,
        denoised(accuracies, losses),
    ]


def taus(scores: Sequence[float], truth: Sequence[float], costs: Sequence[int]) -> str:
    """Format tau over all networks, and the mean of tau within thirds of the costs."""
    score, true, cost = np.array(scores), np.array(truth), np.array(costs, dtype=float)
    inside = fmean(taus_in_thirds(score, true, cost))
    return f"{tau_or_zero(score, true):.2f} / {inside:.2f}"


def evaluated(
    evaluator: ProxyTraining, networks: Sequence[Architecture], seed: int
) -> tuple[list[Evaluation], float]:
    """Return the outcomes of a recipe and its mean CPU seconds."""
    evaluator.evaluate(Task(networks[0], seed))  # opens the images
    started = time.process_time()
    outcomes = [evaluator.evaluate(Task(network, seed)).evaluation for network in networks]
    return outcomes, (time.process_time() - started) / len(networks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path, help="xiusu/NAS-Bench-Macro's nas-bench-macro_cifar10")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--supernet", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    prepare_worker()
    space = load_specification(str(nas_bench_macro.SPACE))
    accuracies, _ = nas_bench_macro.truth(given.table)
    rng = Random(f"{given.seed}/recipes")
    drawn = [space.decode(space.sample_params(rng)) for _ in range(2 * given.networks)]
    networks = list({each.fingerprint: each for each in drawn}.values())[: given.networks]
    truth = [accuracies[each.fingerprint] for each in networks]
    costs = [measure(each)["mult_adds"] for each in networks]
    # Validation images drawn from training images differ by seed; the supernet needs the same seed.
    supernet = torch.load(given.supernet, map_location="cpu", weights_only=True)
    split_seed = supernet["made_by"]["seed"]
    print(f"| recipe | CPU s | {' | '.join(SCORES)} |")
    print("|---|---|" + "---|" * len(SCORES))
    print(f"| Mult-Adds | 0 | {taus([float(c) for c in costs], truth, costs)} | | | |", flush=True)
    for recipes, shared in ((RECIPES, given.supernet.absolute()), (FRESH, None)):
        for name, changes in recipes.items():
            proxy = space.settings.proxy.model_copy(update=dict(changes))
            evaluator = ProxyTraining(proxy, given.data, split_seed, "cpu", shared)
            outcomes, seconds = evaluated(evaluator, networks, given.seed)
            cells = " | ".join(taus(score, truth, costs) for score in scores(outcomes))
            print(f"| {name} | {seconds:.1f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
