"""Time proxy trainings on one GPU: replayed CUDA graphs against eager steps, with 1 to N workers.

    python benchmarks/gpu.py [--jobs 1 4 16] [--rounds 3] [--space v2.yaml]

Each worker is a process, as in `mbsearch run`, and trains random networks of the space with the
proxy recipe from fresh weights. The first training of each worker loads CUDA and is not counted.
"""

from __future__ import annotations

import argparse
import time
from random import Random

import torch

from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.execution.local import LocalProcesses, settled
from mbsearch.execution.protocol import Task
from mbsearch.training.devices import choose_device, device_name, prepare_worker
from mbsearch.training.loop import Training
from mbsearch.training.proxy import ProxyTraining


def step_by_step() -> None:
    """Prepare a worker that replays no steps."""
    prepare_worker()
    Training.repeats = False  # type: ignore[assignment, method-assign]


def rate(space: SearchSpecification, jobs: int, rounds: int, replay: bool) -> tuple[float, float]:
    """Return trainings per minute and GiB of GPU memory in use."""
    evaluator = ProxyTraining(space.settings.proxy, space.settings.proxy.data)
    rng = Random(0)
    networks = [space.decode(space.sample_params(rng)) for _ in range(jobs * (rounds + 1))]
    tasks = [Task(network, seed=0) for network in networks]
    prepare = prepare_worker if replay else step_by_step
    with LocalProcesses(evaluator, jobs, prepare) as executor:
        for batch in (tasks[:jobs], tasks[jobs:]):
            started = time.perf_counter()
            for finished in settled(executor, batch):
                assert finished.error is None, finished.error
            seconds = time.perf_counter() - started
        free, whole = torch.cuda.mem_get_info()
    return 60 * jobs * rounds / seconds, (whole - free) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--jobs", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="numbers of workers"
    )
    parser.add_argument("--rounds", type=int, default=3, help="trainings per worker")
    parser.add_argument("--space", default="v2.yaml", help="search space")
    given = parser.parse_args()
    space = load_specification(given.space)
    print(f"torch {torch.__version__}, {device_name(choose_device())}")
    print("| workers | single steps | replayed | GiB |")
    print("|---|---|---|---|", flush=True)
    for jobs in given.jobs:
        single, _ = rate(space, jobs, given.rounds, replay=False)
        replayed, memory = rate(space, jobs, given.rounds, replay=True)
        print(f"| {jobs} | {single:.1f} | {replayed:.1f} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()
