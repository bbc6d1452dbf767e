"""Compare samplers on problems with a known answer.

    python benchmarks/search.py nas_bench_macro_cifar10.json --seeds 10 --trials 100
    python benchmarks/search.py --synthetic 0 --seeds 10 --trials 100
    python benchmarks/search.py --space mixed --seeds 3 --trials 100
    python benchmarks/search.py --large wide --seeds 3 --trials 200
    python benchmarks/search.py --large wide --seeds 3 --trials 100 --budgets 5,10,20

The output is a Markdown table: the share of the true front's hypervolume over log Mult-Adds, as the
mean over seeds and, in brackets, the worst seed.

- A study observes one noisy training per network. Its result is scored by true mean accuracy.
- All samplers begin with the same eight networks, evenly spread over log Mult-Adds and chosen
  without accuracies. They are enqueued, so each sampler counts them as its start-up trials. No
  sampler draws random networks after them, except NSGA-II and random, which have no model.
- The score is that of the selected front: by the model's means for the cost-aware sampler, by
  observed accuracies for the others. The column `all trained` scores all trained networks instead.
- `cost-aware` has canonical parameters, log params and the work of a training, as in `mbsearch
  run`. `by trials` has all but the work, so it maximises the gain per trial instead of per time.
  `bare` has the search space and the cost only. The others have log10 of Mult-Adds as second
  objective, which suits them best. GPSampler has choices coded as integers for the same reason.
- With `--budgets`, in millions of Mult-Adds, the score is the regret within each budget in points:
  the true accuracy of the best network minus that of the network chosen by the model (or by
  observed accuracy). `budgets` is the cost-aware sampler with these budgets. Every other sampler
  has the largest budget as its limit. No network is enqueued.
- With `--pending 4`, each suggestion is made while four others are being trained.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
from large_truth import KINDS
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from problems import Params, Problem, large, nas_bench_macro, shipped, synthetic

from mbsearch.analysis.pareto import pareto_front
from mbsearch.search.factory import training_work
from mbsearch.search.sampler.cost_aware import CostAwareSampler

STARTUP = 8
MARKS = (25, 50, 100, 200, 500)
SAMPLERS = ("cost-aware", "by trials", "bare", "gp", "tpe", "nsga2", "random", "budgets")


class Search:
    """One study of one sampler on a problem."""

    def __init__(
        self, problem: Problem, name: str, seed: int, budgets: tuple[float, ...] = ()
    ) -> None:
        self.problem, self.seed, self.budgets = problem, seed, budgets
        self.integers = name == "gp"
        self.sampler = make_sampler(name, problem, seed, budgets)
        self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=self.sampler)
        self.space: dict[str, BaseDistribution] = dict(problem.space)
        if self.integers:
            self.space = {
                key: IntDistribution(0, len(choice.choices) - 1)
                for key, choice in problem.space.items()
            }
        for params in () if budgets else startup(problem, seed):
            self.study.enqueue_trial(self.encode(params))

    def run(
        self, trials: int, pending: int
    ) -> tuple[dict[int, tuple[float, ...]], float, float, float]:
        """Return scores at each mark, share of all trained, Mult-Adds and CPU s per trial."""
        scores: dict[int, tuple[float, ...]] = {}
        running, seconds = deque[optuna.Trial](), 0.0
        finished = 0
        while finished < trials:
            before = time.process_time()
            running.append(self.study.ask(self.space))
            seconds += time.process_time() - before
            if len(running) > pending:
                trial = running.popleft()
                if not self.problem.feasible(self.decode(trial.params)):
                    self.study.tell(trial, state=TrialState.PRUNED)  # free, as in `mbsearch run`
                    continue
                self.study.tell(trial, self.values(self.decode(trial.params)))
                finished += 1
                if finished in MARKS or finished == trials:
                    scores[finished] = self.score()
        trained = [self.decode(trial.params) for trial in self.trained()]
        asked = len(self.study.get_trials(deepcopy=False))
        work = sum(self.problem.mult_adds(params) for params in trained) / len(trained)
        return scores, self.problem.share(trained), work, seconds / asked

    def score(self) -> tuple[float, ...]:
        """Return the regret within each budget in points, or the selected front's share."""
        if not self.budgets:
            return (self.problem.share(self.chosen()),)
        trials = self.trained()
        params = [self.decode(trial.params) for trial in trials]
        values = np.array([trial.values[0] for trial in trials])
        if isinstance(self.sampler, CostAwareSampler):
            values, _ = self.sampler.predict(self.study, [trial.params for trial in trials])
        regrets = []
        for budget in self.budgets:
            inside = [i for i, p in enumerate(params) if self.problem.mult_adds(p) <= budget]
            chosen = max(inside, key=lambda i: values[i])
            lost = self.problem.best(budget) - self.problem.accuracy(params[chosen])
            regrets.append(100 * lost)
        return tuple(regrets)

    def values(self, params: Params) -> tuple[float, float]:
        """Return the objectives of a network: observed accuracy and log10 Mult-Adds."""
        return self.problem.observe(params, self.seed), math.log10(self.problem.mult_adds(params))

    def trained(self) -> list[FrozenTrial]:
        """Return the completed trials."""
        return self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])

    def chosen(self) -> list[Params]:
        """Return the selected front."""
        if isinstance(self.sampler, CostAwareSampler):
            return [trial.params for trial in self.sampler.front(self.study)]
        trials = self.trained()
        front = pareto_front([t.values[0] for t in trials], [t.values[1] for t in trials])
        return [self.decode(trials[i].params) for i in front]

    def encode(self, params: Params) -> Params:
        """Convert parameters of the problem to those of the study."""
        if not self.integers:
            return params
        return {key: self.problem.space[key].choices.index(params[key]) for key in params}

    def decode(self, params: Params) -> Params:
        """Convert parameters of the study to those of the problem."""
        if not self.integers:
            return params
        return {key: self.problem.space[key].choices[index] for key, index in params.items()}


def make_sampler(
    name: str, problem: Problem, seed: int, budgets: tuple[float, ...] = ()
) -> BaseSampler:
    """Return a sampler by its name on the command line."""
    match name:
        case "budgets":
            return CostAwareSampler(
                problem.space,
                problem.mult_adds,
                budgets=lambda p: [problem.mult_adds(p) <= budget for budget in budgets],
                canonical=problem.canonical,
                features=problem.features,
                feasible=problem.feasible,
                seed=seed,
            )
        case "cost-aware" | "by trials":
            return CostAwareSampler(
                problem.space,
                problem.mult_adds,
                work=(lambda p: training_work(round(problem.mult_adds(p))))
                if name == "cost-aware"
                else None,
                canonical=problem.canonical,
                features=problem.features,
                feasible=problem.feasible,
                seed=seed,
            )
        case "bare":
            return CostAwareSampler(
                problem.space, problem.mult_adds, feasible=problem.feasible, seed=seed
            )
        case "gp":
            return GPSampler(n_startup_trials=STARTUP, seed=seed)
        case "tpe":
            return TPESampler(multivariate=True, n_startup_trials=STARTUP, seed=seed)
        case "nsga2":
            return NSGAIISampler(population_size=20, seed=seed)
        case "random":
            return RandomSampler(seed=seed)
        case _:
            raise SystemExit(f"--samplers: expected some of {', '.join(SAMPLERS)}, got {name!r}")


def limited(problem: Problem, most: float) -> Problem:
    """Return the problem with a limit on Mult-Adds."""

    def feasible(params: Params) -> bool:
        return problem.mult_adds(params) <= most and problem.feasible(params)

    return replace(problem, feasible=feasible)


def startup(problem: Problem, seed: int) -> list[Params]:
    """Return the first networks of every study of a seed."""
    sampler = CostAwareSampler(
        problem.space,
        problem.mult_adds,
        feasible=problem.feasible,
        startup_trials=STARTUP,
        seed=10_000 + seed,
    )
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    return [study.ask(dict(problem.space)).params for _ in range(STARTUP)]


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path, nargs="?", help="NAS-Bench-Macro's JSON file")
    parser.add_argument("--synthetic", type=int, help="seed of a synthetic truth instead")
    parser.add_argument("--space", help="a shipped space with a synthetic truth instead")
    parser.add_argument("--large", choices=KINDS, help="a large space with a synthetic truth")
    parser.add_argument("--truth", type=int, default=0, help="seed of that truth")
    parser.add_argument("--budgets", default="", help="in millions of Mult-Adds: print regrets")
    parser.add_argument("--seeds", type=int, default=10, help="number of searches per sampler")
    parser.add_argument("--trials", type=int, default=100, help="trials of each search")
    parser.add_argument("--samplers", default=",".join(SAMPLERS[:-1]), help="names with commas")
    parser.add_argument("--pending", type=int, default=0, help="trials running at each suggestion")
    options = parser.parse_args()
    given = (options.table, options.synthetic, options.space, options.large)
    if sum(each is not None for each in given) != 1:
        parser.error("expected a table, --synthetic, --space or --large")
    return options


def chosen_problem(options: argparse.Namespace) -> Problem:
    """Return the problem that the command line names."""
    if options.table is not None:
        return nas_bench_macro(options.table)
    if options.space is not None:
        return shipped(options.space, truth_seed=0)
    if options.large is not None:
        return large(options.large, options.truth)
    return synthetic(options.synthetic)


def cell(scores: NDArray[np.float64], regrets: bool) -> str:
    """Format the scores of a sampler's searches after some number of trials."""
    if regrets:
        return " / ".join(f"{each:.2f}" for each in scores.mean(axis=0)) + " |"
    return f"{scores.mean():.4f} ({scores.min():.4f}) |"


def main() -> None:
    """Print the comparison as a Markdown table."""
    options = parsed()
    budgets = tuple(1e6 * float(text) for text in options.budgets.split(",") if text)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problem = chosen_problem(options)
    if budgets:
        problem = limited(problem, max(budgets))
    marks = sorted({mark for mark in MARKS if mark < options.trials} | {options.trials})
    print(
        "| sampler |",
        *(f"{m} trials |" for m in marks),
        "all trained | M Mult-Adds a trial | CPU s a suggestion |",
    )
    print("|---|" + "---|" * (len(marks) + 3))
    for name in options.samplers.split(","):
        results = [
            Search(problem, name, seed, budgets).run(options.trials, options.pending)
            for seed in range(options.seeds)
        ]
        cells = [
            cell(np.array([found[mark] for found, *_ in results]), bool(budgets)) for mark in marks
        ]
        everything, work, seconds = np.mean([rest for _, *rest in results], axis=0)
        ends = f"{everything:.4f} | {work / 1e6:.0f} | {seconds:.3f} |"
        print(f"| {name} |", *cells, ends, flush=True)


if __name__ == "__main__":
    main()
