"""Search problems with a known answer: a table of trained networks, and synthetic accuracies."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from large_truth import LargeTruth
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from space_truth import SpaceTruth
from synthetic_truth import SyntheticTruth, canonical, mult_adds, parameters, search_space

from mbsearch.analysis.pareto import hypervolume, pareto_front
from mbsearch.config.specification import load_specification

Params = dict[str, Any]
Space = Mapping[str, CategoricalDistribution]
Genes = tuple[int, ...]

EXPANDED = 100
STAGES = ((0, 2), (2, 5), (5, 8))
"""Layers of each stage of NAS-Bench-Macro."""


class TrueFront(NamedTuple):
    """Reference point (lowest accuracy, highest log cost), hypervolume and points of a front."""

    reference_point: tuple[float, float]
    volume: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A search space with observed and true accuracies.

    `observe` returns the accuracy of a training with a seed, `accuracy` the true mean. `volume` is
    the hypervolume of the true front over log Mult-Adds up to `reference_point`. `front` holds its
    (accuracy, log Mult-Adds).
    """

    space: dict[str, CategoricalDistribution]
    mult_adds: Callable[[Params], float]
    canonical: Callable[[Params], Params]
    features: Callable[[Params], Sequence[float]]
    observe: Callable[[Params, int], float]
    accuracy: Callable[[Params], float]
    reference_point: tuple[float, float]
    volume: float
    front: tuple[tuple[float, float], ...] = ()
    feasible: Callable[[Params], bool] = lambda _: True

    def share(self, found: Sequence[Params]) -> float:
        """Return the share of the true front's hypervolume that networks reach by true accuracy."""
        accuracies = [self.accuracy(params) for params in found]
        costs = [math.log(self.mult_adds(params)) for params in found]
        return hypervolume(accuracies, costs, self.reference_point) / self.volume

    def best(self, budget: float) -> float:
        """Return the true accuracy of the best network within a budget of Mult-Adds."""
        return max(accuracy for accuracy, cost in self.front if cost <= math.log(budget))


def nas_bench_macro(path: Path) -> Problem:
    """Read 6,561 networks of 8 layers with 3 choices, each trained three times on CIFAR-10.

    The file comes from xiusu/NAS-Bench-Macro (Apache-2.0). The true accuracy is the mean of the
    three runs; a training with seed s has the accuracy of run s modulo 3.
    """
    table = json.loads(path.read_text())
    names = [f"layer{i}" for i in range(STAGES[-1][1])]

    def entry(params: Params) -> Any:
        return table["".join(params[name] for name in names)]

    def moved(params: Params) -> Params:
        """Move identities to the end of their stage: after its first layer their order is void."""
        values = [params[name] for name in names]
        for first, end in STAGES:
            values[first + 1 : end] = sorted(values[first + 1 : end], key=lambda v: v == "0")
        return dict(zip(names, values, strict=True))

    true = [float(np.mean(row["test_acc"])) / 100 for row in table.values()]
    costs = [math.log(row["flops"]) for row in table.values()]
    reference_point = min(true), max(costs)
    return Problem(
        space={name: CategoricalDistribution(("0", "1", "2")) for name in names},
        mult_adds=lambda params: float(entry(params)["flops"]),
        canonical=moved,
        features=lambda params: [math.log(entry(params)["params"])],
        observe=lambda params, seed: entry(params)["test_acc"][seed % 3] / 100,
        accuracy=lambda params: float(np.mean(entry(params)["test_acc"])) / 100,
        reference_point=reference_point,
        volume=hypervolume(true, costs, reference_point),
    )


def synthetic(truth_seed: int) -> Problem:
    """Return a space of 26 choices, some conditional, with accuracies of `synthetic_truth`.

    The true front is the result of a long evolution on noise-free accuracies.
    """
    truth = SyntheticTruth.from_seed(truth_seed)
    space = search_space()

    def noisy(params: Params, seed: int) -> float:
        return truth.observe(params, zlib.crc32(repr((seed, sorted(params.items()))).encode()))

    reference_point, volume, front = _evolve(space, truth.accuracy, mult_adds)
    return Problem(
        space=space,
        mult_adds=mult_adds,
        canonical=canonical,
        features=lambda params: [math.log(parameters(params))],
        observe=noisy,
        accuracy=truth.accuracy,
        reference_point=reference_point,
        volume=volume,
        front=front,
    )


def large(kind: str, truth_seed: int) -> Problem:
    """Return a space of 27 or 28 choices with accuracies of `large_truth`."""
    truth = LargeTruth(kind, truth_seed)
    reference_point, volume, front = _evolve(
        truth.space, truth.accuracy, truth.mult_adds, least_growth=2e-4
    )
    return Problem(
        space=truth.space,
        mult_adds=truth.mult_adds,
        canonical=dict,
        features=lambda params: [truth.log_params(params)],
        observe=truth.observe,
        accuracy=truth.accuracy,
        reference_point=reference_point,
        volume=volume,
        front=front,
    )


def shipped(name: str, truth_seed: int) -> Problem:
    """Return a shipped search space and its limits, with accuracies of `space_truth`."""
    truth = SpaceTruth(load_specification(name), truth_seed)
    space = {c.name: CategoricalDistribution(c.values) for c in truth.space.choices}
    reference_point, volume, front = _evolve(space, truth.accuracy, truth.mult_adds, truth.feasible)
    return Problem(
        space=space,
        mult_adds=truth.mult_adds,
        canonical=truth.canonical,
        features=lambda params: [truth.log_params(params)],
        observe=truth.observe,
        accuracy=truth.accuracy,
        reference_point=reference_point,
        volume=volume,
        front=front,
        feasible=truth.feasible,
    )


@dataclass(slots=True)
class _Evolution:
    """Networks that an evolution has evaluated: option numbers to accuracy and log cost."""

    space: Space
    accuracy: Callable[[Params], float]
    cost: Callable[[Params], float]
    feasible: Callable[[Params], bool]
    found: dict[Genes, tuple[float, float]] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        """Number of options of each choice."""
        return [len(distribution.choices) for distribution in self.space.values()]

    @property
    def values(self) -> NDArray[np.float64]:
        """Accuracy and log cost of each network."""
        return np.array(list(self.found.values()))

    def add(self, genes: Genes) -> None:
        """Evaluate a network, unless it is known or infeasible."""
        if genes in self.found:
            return
        params = {
            name: distribution.choices[gene]
            for (name, distribution), gene in zip(self.space.items(), genes, strict=True)
        }
        if self.feasible(params):
            self.found[genes] = self.accuracy(params), math.log(self.cost(params))

    def begin(self, rng: np.random.Generator) -> None:
        """Add the first and the last option of every choice, and 3,000 random networks."""
        self.add(tuple(0 for _ in self.sizes))
        self.add(tuple(size - 1 for size in self.sizes))
        for _ in range(3000):
            self.add(tuple(int(rng.integers(size)) for size in self.sizes))

    def front(self) -> list[Genes]:
        """Return the networks of the Pareto front."""
        genomes, values = list(self.found), self.values
        return [genomes[i] for i in pareto_front(values[:, 0], values[:, 1])]

    def expand(self, genes: Genes, rng: np.random.Generator) -> None:
        """Add every network that differs in one choice, and 100 that differ in two or three."""
        for i, size in enumerate(self.sizes):
            for gene in range(size):
                self.add((*genes[:i], gene, *genes[i + 1 :]))
        for _ in range(100):
            child = list(genes)
            for i in rng.choice(len(self.sizes), int(rng.integers(2, 4)), replace=False):
                child[i] = int(rng.integers(self.sizes[i]))
            self.add(tuple(child))


def _evolve(
    space: Space,
    accuracy: Callable[[Params], float],
    cost: Callable[[Params], float],
    feasible: Callable[[Params], bool] = lambda _: True,
    least_growth: float = 0.0,
) -> TrueFront:
    """Return the best front that an evolution finds.

    Evolution ends with a round that adds no network to the front, or less than `least_growth` of
    its hypervolume. In the latter case a round expands at most `EXPANDED` networks.
    """
    rng = np.random.default_rng(0)
    evolution = _Evolution(space, accuracy, cost, feasible)
    evolution.begin(rng)
    expanded: set[Genes] = set()
    volume = 0.0
    while True:
        values = evolution.values
        before, volume = volume, hypervolume(values[:, 0], values[:, 1], (0.0, values[:, 1].max()))
        if volume - before < least_growth * before:
            break
        fresh = [genes for genes in evolution.front() if genes not in expanded]
        if not fresh:
            break
        if least_growth:
            fresh = fresh[:: math.ceil(len(fresh) / EXPANDED)]
        for genes in fresh:
            expanded.add(genes)
            evolution.expand(genes, rng)
    accuracies, costs = values[:, 0], values[:, 1]
    reference_point = float(accuracies.min()), float(costs.max())
    best = pareto_front(accuracies, costs)
    points = tuple((float(a), float(c)) for a, c in values[best])
    return TrueFront(reference_point, hypervolume(accuracies, costs, reference_point), points)
