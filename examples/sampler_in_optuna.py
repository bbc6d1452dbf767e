"""Use the cost-aware sampler alone, in an Optuna study of your own.

    python examples/sampler_in_optuna.py

The second objective must be known before a trial: here the parameters of a multilayer perceptron.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import optuna

import mbsearch as mb

SPACE = {
    f"layer{i}": optuna.distributions.CategoricalDistribution([0, 16, 32, 64, 128])
    for i in range(4)
}


def parameters(params: Mapping[str, Any]) -> int:
    """Return the number of weights and biases; a width of 0 leaves the layer out."""
    widths = [64, *(width for width in params.values() if width), 10]
    return sum((a + 1) * b for a, b in pairwise(widths))


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """Return accuracy and cost; replace the formula by a training."""
    params = {name: trial.suggest_categorical(name, each.choices) for name, each in SPACE.items()}
    cost = parameters(params)
    return 1 - 1 / math.log(cost), cost


def main() -> None:
    """Run 20 trials, and print the front by the means of the sampler's model."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = mb.CostAwareSampler(SPACE, parameters, seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=20)
    for trial in sampler.front(study):
        accuracy, cost = trial.values
        print(f"trial {trial.number}: {cost:,.0f} parameters, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
