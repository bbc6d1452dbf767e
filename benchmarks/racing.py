"""What front racing saves and what it costs: real trainings on the embedded images.

    python benchmarks/racing.py [--space v2.yaml] [--trials 60] [--seeds 3] [--folder F]

Each seed is run with and without racing, from the same baselines' recipe, by the default sampler.
Seconds are training seconds in the workers, those of the search trials only (baselines are never
stopped). Hypervolume is over log10 Mult-Adds, up to accuracy 0 at the dearest network of the seed's
two runs. A run that was interrupted goes on when the command is given again.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from mbsearch.pareto import hypervolume
from mbsearch.records import TrialRecord, complete
from mbsearch.search.racing import savings
from mbsearch.search.storage import read_study
from mbsearch.space.catalog import load_space
from mbsearch.space.settings import Racing
from mbsearch.study import run


def search(
    space_name: str, folder: Path, trials: int, seed: int, racing: bool
) -> list[TrialRecord]:
    """One run, or what is missing of it."""
    space = load_space(space_name)
    if not racing:
        off = space.settings.model_copy(update={"racing": Racing(rungs=())})
        space = space.with_settings(off)
    if (folder / "journal.log").exists():
        records = read_study(folder).records()
        if sum(not r.is_baseline and r.ended is not None for r in records) >= trials:
            return records
    return run(space, trials=trials, folder=folder, seed=seed).records


def volume(records: list[TrialRecord], dearest: int) -> float:
    """Hypervolume of the trials that were trained to the end."""
    done = complete(records)
    costs = [math.log10(r.mult_adds) for r in done]
    return hypervolume([r.accuracy for r in done], costs, (0.0, math.log10(dearest)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="v2.yaml")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("results/racing"))
    options = parser.parse_args()
    print(
        "| seed | stopped | seconds with | without | saved | hypervolume with | without | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
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
        dearest = max(r.mult_adds for r in complete([*raced, *whole]))
        volumes = volume(raced, dearest), volume(whole, dearest)
        saved = 1 - with_.seconds_spent / without.seconds_spent
        print(
            f"| {seed} | {with_.stopped} of {with_.trials} | {with_.seconds_spent:.0f} "
            f"| {without.seconds_spent:.0f} | {saved:.0%} "
            f"| {volumes[0]:.4f} | {volumes[1]:.4f} | {volumes[0] / volumes[1]:.4f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
