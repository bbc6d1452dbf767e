"""Measure scaling over workers, and the driver's time per trial as a study grows.

    python benchmarks/scaling.py                       # both tables, the study in a journal
    python benchmarks/scaling.py --storage postgresql://USER@HOST/DATABASE

The evaluator sleeps for a second, so the machine's cores are no limit. A scaling run is compared
with the ideal: as many rounds of a second as the workers need. Its clock starts when all workers
have started, once per run.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.execution.local import Finished, LocalProcesses
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.progress import Progress
from mbsearch.search.driver import Driver
from mbsearch.search.factory import make_sampler
from mbsearch.study.opening import drive
from mbsearch.study.records import Epoch, Evaluation

ROUNDS = 12  # of one second, at every number of workers
WINDOW = 50  # trials over which the driver's cost is averaged


@dataclass(frozen=True, slots=True)
class Sleeping:
    """Evaluator that sleeps; accuracy rises with resolution."""

    seconds: float

    def evaluate(self, task: Task) -> Outcome:
        time.sleep(self.seconds)
        accuracy = task.architecture.resolution.side / 256
        return Outcome(
            Evaluation(
                accuracy=accuracy,
                validation_loss=-math.log(accuracy),
                seconds=self.seconds,
                seed=task.seed,
                pixels=task.architecture.resolution,
                curve=(Epoch(1.0, 1.0, accuracy, self.seconds),),
                evaluator="sleeping",
                recipe={},
                device="none",
            )
        )


class InThisProcess:
    """Executor without workers, so that all time is the driver's."""

    slots = 1

    def __init__(self) -> None:
        self._tasks: list[tuple[int, Task]] = []

    def submit(self, ticket: int, task: Task) -> None:
        self._tasks.append((ticket, task))

    def wait(self, timeout: float) -> list[Finished]:
        ticket, task = self._tasks.pop()
        return [Finished(ticket, outcome=Sleeping(0.0).evaluate(task))]

    def close(self) -> None:
        self._tasks.clear()


def bare_space() -> SearchSpecification:
    space = load_specification("v2")
    proxy = space.settings.proxy.model_copy(update={"epochs": 1})
    changes = {"baselines": (), "proxy": proxy, "promotion": Promotion(share=0)}
    return space.with_settings(changes)


def scaling(workers: int, sampler: str, storage: str | None) -> float:
    """Return the seconds from the first completed trial to the last, over whole rounds."""
    space = bare_space()
    told: list[float] = []

    def note(progress: Progress) -> None:
        if progress.message is not None:
            told.append(time.monotonic())

    trials = workers * (ROUNDS + 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        drive(Path(folder) / uuid.uuid4().hex, space.name, storage) as (store, _),
        LocalProcesses(Sleeping(1.0), workers) as executor,
    ):
        store.search.sampler = make_sampler(sampler, space, seed=0)
        Driver(store, space, executor, trials, 0, note).run()
    return told[-1] - told[workers - 1]


def overhead(trials: int, sampler: str, storage: str | None) -> dict[int, tuple[float, float]]:
    """Return the driver's CPU and wall seconds per trial, around 100, 1,000 and 10,000 trials."""
    space = bare_space()
    clock: list[tuple[float, float]] = []

    def note(progress: Progress) -> None:
        if progress.message is not None:
            clock.append((time.process_time(), time.monotonic()))

    with (
        tempfile.TemporaryDirectory() as folder,
        drive(Path(folder) / uuid.uuid4().hex, space.name, storage) as (store, _),
    ):
        store.search.sampler = make_sampler(sampler, space, seed=0)
        Driver(store, space, InThisProcess(), trials, 0, note).run()
    marks = [n for n in (100, 1_000, 10_000) if n <= trials]
    spent = {}
    for n in marks:
        (cpu, wall), (cpu_before, wall_before) = clock[n - 1], clock[n - 1 - WINDOW]
        spent[n] = ((cpu - cpu_before) / WINDOW, (wall - wall_before) / WINDOW)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--storage", help="PostgreSQL URL (default: the journal file)")
    given = parser.parse_args()
    for workers in given.workers:
        seconds = statistics.median(
            scaling(workers, given.sampler, given.storage) for _ in range(given.repeats)
        )
        rate = workers * ROUNDS / seconds
        print(
            f"{workers} workers: {seconds:.2f} s for {workers * ROUNDS} trials, "
            f"{rate:.2f} a second, {rate / workers:.0%} of ideal",
            flush=True,
        )
    if given.trials:
        spent = overhead(given.trials, given.sampler, given.storage)
        for trials, (cpu, wall) in spent.items():
            print(f"driver at {trials:,} trials: {cpu * 1e3:.0f} ms CPU, {wall * 1e3:.0f} ms wall")


if __name__ == "__main__":
    main()
