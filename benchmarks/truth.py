"""Compare whole searches with the known true front of NAS-Bench-Macro.

    python benchmarks/truth.py nas_bench_macro_cifar10.json --data CIFAR_FOLDER --minutes 60

`mbsearch run` searches the space of NAS-Bench-Macro with CIFAR-10 images and real trainings, for
--minutes on one core. Its recommended networks are looked up in the table of three full trainings
each. The scores are the hypervolume of its front over log Mult-Adds, as a share of the true
front's, and the regret at some budgets, in points of accuracy. The other arms are

- naive: the same minutes with SGD at 0.1 on small images, no racing, no promotion, Optuna's TPE;
- largest: as many random networks as mbsearch trained; at each budget the network of the most
  Mult-Adds (its front: at the cost of every network on mbsearch's front).

mbsearch selects by predicted accuracy. Two more rows select otherwise: `as measured` by the
accuracies of promotions (of all trials if there were none), and `short trainings only` by
predictions without promotions. Every arm is kept in --folder; an interrupted arm is resumed for
--minutes again.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean

import nas_bench_macro

from mbsearch.analysis.pareto import hypervolume, pareto_front
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.racing_settings import Racing
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.cost import measure
from mbsearch.search.estimates import Estimates
from mbsearch.space.architecture import Architecture
from mbsearch.study.opening import read_study
from mbsearch.study.records import TrialRecord, complete, of_highest_fidelity
from mbsearch.study.store import StudyStore
from mbsearch.study_run import run

BUDGETS = (15_000_000, 30_000_000, 60_000_000, 100_000_000)
NAIVE = Proxy(
    width_scale=0.5,
    resolution_scale=0.5,
    train_images=4000,
    epochs=4,
    optimizer="sgd",
    learning_rate=0.1,
    warmup=0.0,
    zero_init_residual=False,
)


@dataclass(frozen=True, slots=True)
class Truth:
    """True accuracy and Mult-Adds of every network of the space by fingerprint."""

    accuracy: dict[str, float]
    mult_adds: dict[str, int]

    @staticmethod
    def read(table: Path) -> Truth:
        accuracies, networks = nas_bench_macro.truth(table)
        return Truth(accuracies, {k: measure(n)["mult_adds"] for k, n in networks.items()})

    def share(self, found: Sequence[str]) -> float:
        """Return the share of the true front's hypervolume over log Mult-Adds."""
        reference = (min(self.accuracy.values()), math.log(max(self.mult_adds.values())))

        def volume(keys: Sequence[str]) -> float:
            accuracies = [self.accuracy[key] for key in keys]
            return hypervolume(accuracies, [math.log(self.mult_adds[k]) for k in keys], reference)

        return volume(found) / volume(list(self.accuracy))

    def regret(self, budget: int, choice: str | None) -> float:
        """Return the regret of the choice for a budget, in points of accuracy."""
        within = [a for key, a in self.accuracy.items() if self.mult_adds[key] <= budget]
        got = min(self.accuracy.values()) if choice is None else self.accuracy[choice]
        return 100 * (max(within) - got)


@dataclass(frozen=True, slots=True)
class Belief:
    """Scores and costs of an arm's networks by fingerprint.

    `front` overrides the Pareto front of the scores.
    """

    score: dict[str, float]
    mult_adds: dict[str, int]
    trained: int
    at: tuple[int, ...] | None = None

    def choice(self, budget: int) -> str | None:
        within = [key for key in self.score if self.mult_adds[key] <= budget]
        return max(within, key=lambda key: self.score[key], default=None)

    def front(self) -> list[str]:
        if self.at is not None:
            return [key for cost in self.at if (key := self.choice(cost)) is not None]
        keys = list(self.score)
        scores = [self.score[key] for key in keys]
        return [keys[i] for i in pareto_front(scores, [self.mult_adds[key] for key in keys])]


def searched(
    folder: Path,
    space: SearchSpecification,
    sampler: str,
    seed: int,
    minutes: float,
    jobs: int,
    data: str,
) -> StudyStore:
    """Run one search for some minutes of a core, unless it is complete."""
    finished, given = folder / "finished", f"{minutes:g} minutes, {jobs} jobs, {data}\n"
    if finished.exists() and finished.read_text() != given:
        raise SystemExit(
            f"{folder}: expected a search of {given.strip()}, got one of "
            f"{finished.read_text().strip() or 'unknown settings'}; take another --folder"
        )
    if not finished.exists():
        run(
            space,
            trials=100_000,
            minutes=minutes / jobs,
            folder=folder,
            data=data,
            jobs=jobs,
            sampler=sampler,
            seed=seed,
        )
        finished.write_text(given)
    return read_study(folder)


def believed(records: Sequence[TrialRecord], expected: Mapping[int, float] | None = None) -> Belief:
    """Return scores by predicted accuracy (by trial), or else by measured accuracy."""
    judged = of_highest_fidelity(records)
    return Belief(
        {r.fingerprint: (expected or {}).get(r.trial, r.accuracy) for r in judged},
        {r.fingerprint: r.mult_adds for r in judged},
        len(complete(list(records))),
    )


def largest(space: SearchSpecification, count: int, costs: Sequence[int], seed: int) -> Belief:
    """Return random networks, scored by their cost."""
    rng = Random(f"{seed}/largest")
    drawn: dict[str, Architecture] = {}
    while len(drawn) < count:
        network = space.decode(space.sample_params(rng))
        drawn.setdefault(network.fingerprint, network)
    mult_adds = {key: measure(network)["mult_adds"] for key, network in drawn.items()}
    scores = {key: float(cost) for key, cost in mult_adds.items()}
    return Belief(scores, mult_adds, 0, tuple(costs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path, help="xiusu/NAS-Bench-Macro's nas-bench-macro_cifar10")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument(
        "--minutes", type=float, default=60, help="minutes of one core per arm and seed"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--without-naive", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("results/truth"))
    given = parser.parse_args()
    space = load_specification(str(nas_bench_macro.SPACE))
    truth = Truth.read(given.table)
    naive = space.with_settings(
        {"proxy": NAIVE, "racing": Racing(rungs=()), "promotion": Promotion(share=0)}
    )
    names = " | ".join(f"{budget // 10**6} M" for budget in BUDGETS)
    print(f"| seed | arm | trained | hypervolume | regret at {names} | mean | wall s |")
    print("|---|---|---|---|" + "---|" * (len(BUDGETS) + 2), flush=True)

    def show(seed: int, name: str, belief: Belief, seconds: float | None) -> None:
        regrets = [truth.regret(budget, belief.choice(budget)) for budget in BUDGETS]
        cells = " | ".join(f"{regret:.2f}" for regret in regrets)
        wall = "" if seconds is None else f"{seconds:.0f}"
        print(
            f"| {seed} | {name} | {belief.trained or ''} | {truth.share(belief.front()):.4f} "
            f"| {cells} | {fmean(regrets):.2f} | {wall} |",
            flush=True,
        )

    def timed(work: Callable[[], StudyStore]) -> tuple[StudyStore, float]:
        started = time.monotonic()
        return work(), time.monotonic() - started

    for seed in given.seeds:
        more = (seed, given.minutes, given.jobs, given.data)
        store, seconds = timed(
            lambda: searched(given.folder / f"mbsearch-{seed}", space, "cost-aware", *more)  # noqa: B023
        )
        records, estimates = store.records(), Estimates(store, space)
        short = [replace(r, promotion=None) for r in complete(records)]
        predicted = {trial: each.accuracy for trial, each in estimates.highest().items()}
        ours = believed(short, predicted)
        show(seed, "mbsearch", ours, seconds)
        show(seed, "as measured", believed(records), None)
        alone = estimates.with_growth(estimates.short(short), short)
        show(seed, "short trainings only", believed(short, alone), None)
        costs = [ours.mult_adds[key] for key in ours.front()]
        show(seed, "largest", largest(space, len(short), costs, seed), None)
        if not given.without_naive:
            store, seconds = timed(
                lambda: searched(given.folder / f"naive-{seed}", naive, "tpe", *more)  # noqa: B023
            )
            show(seed, "naive", believed(store.records()), seconds)


if __name__ == "__main__":
    main()
