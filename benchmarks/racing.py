"""Measure the saving and the loss of racing with real trainings on the embedded images.

    python benchmarks/racing.py [--space v2.yaml] [--trials 60] [--seeds 3] [--folder F]

Each seed is run with and without racing, with the same baselines and the default sampler. Seconds
are training seconds of search trials in the workers (baselines are never pruned). Work is Mult-Adds
times epochs, which a busy machine does not change. Hypervolume is over log10 Mult-Adds, up to
accuracy 0 at the largest cost of the seed's two runs. It is computed twice: from observed
accuracies, and from predictions of a Gaussian process on the complete trials of both runs, because
the best of 60 noisy trainings is partly luck. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import optuna

from mbsearch.analysis.pareto import hypervolume
from mbsearch.analysis.racing_savings import savings
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.racing_settings import Racing
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.search.factory import distributions, make_sampler
from mbsearch.search.sampler.cost_aware import CostAwareSampler
from mbsearch.study.opening import read_study
from mbsearch.study.records import TrialRecord, complete
from mbsearch.study_run import run


def search(
    space_name: str, folder: Path, trials: int, seed: int, racing: bool
) -> list[TrialRecord]:
    """Run or resume one search."""
    space = load_specification(space_name)
    changes: dict[str, object] = {"promotion": Promotion(share=0)}
    if not racing:
        changes["racing"] = Racing(rungs=())
    space = space.with_settings(changes)
    if (folder / "journal.log").exists():
        records = read_study(folder).records()
        if sum(not r.is_baseline and r.ended is not None for r in records) >= trials:
            return records
    return run(space, trials=trials, folder=folder, seed=seed).records


def volume(records: list[TrialRecord], accuracies: Mapping[str, float], dearest: int) -> float:
    """Return the hypervolume of networks with given accuracies."""
    costs = [math.log10(r.mult_adds) for r in records]
    heights = [accuracies[r.fingerprint] for r in records]
    return hypervolume(heights, costs, (0.0, math.log10(dearest)))


def expected(space: SearchSpecification, records: list[TrialRecord]) -> dict[str, float]:
    """Predict the accuracy of each network with a model of all networks."""
    sampler = make_sampler("cost-aware", space, seed=0)
    assert isinstance(sampler, CostAwareSampler)
    study = optuna.create_study(directions=["maximize", "minimize"])
    params = [space.complete(r.params) for r in records]
    for record, values in zip(records, params, strict=True):
        objectives = [record.accuracy, math.log10(record.mult_adds)]
        study.add_trial(
            optuna.trial.create_trial(
                params=values, distributions=distributions(space), values=objectives
            )
        )
    means, _ = sampler.predict(study, params)
    return {r.fingerprint: float(mean) for r, mean in zip(records, means, strict=True)}


def work(records: list[TrialRecord]) -> int:
    """Return Mult-Adds times epochs, summed over the search trials."""
    trained = [r for r in records if not r.is_baseline and r.evaluation is not None]
    return sum(r.mult_adds * len(r.evaluation.curve) for r in trained if r.evaluation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="v2.yaml")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("results/racing"))
    options = parser.parse_args()
    print("| seed | pruned | seconds with | without | saved | work saved |", end="")
    print(" hypervolume with | without | ratio | ratio, predicted |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for seed in range(options.seeds):
        raced, whole = (
            search(
                options.space,
                options.folder / f"{'racing' if racing else 'whole'}-{seed}",
                options.trials,
                seed,
                racing,
            )
            for racing in (True, False)
        )
        with_, without = savings(raced), savings(whole)
        # Baselines are equal in both runs, and lie outside the space.
        fronts = [[r for r in complete(run) if not r.is_baseline] for run in (raced, whole)]
        dearest = max(r.mult_adds for front in fronts for r in front)
        seen = [
            volume(front, {r.fingerprint: r.accuracy for r in front}, dearest) for front in fronts
        ]
        means = expected(load_specification(options.space), [r for front in fronts for r in front])
        likely = [volume(front, means, dearest) for front in fronts]
        print(
            f"| {seed} | {with_.pruned} of {with_.trials} | {with_.seconds_spent:.0f} "
            f"| {without.seconds_spent:.0f} "
            f"| {1 - with_.seconds_spent / without.seconds_spent:.0%} "
            f"| {1 - work(raced) / work(whole):.0%} "
            f"| {seen[0]:.4f} | {seen[1]:.4f} | {seen[0] / seen[1]:.4f} "
            f"| {likely[0] / likely[1]:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
