"""Program for tests to kill: a search with the fake evaluator."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    # Workers import this module too, and need none of these imports.
    from fake_evaluator import FakeEvaluator
    from former_spaces import FORMER_V2

    from mbsearch.config.promotion_settings import Promotion
    from mbsearch.config.specification import load_specification
    from mbsearch.execution.local import Executor, LocalProcesses
    from mbsearch.search.driver import Driver
    from mbsearch.search.factory import make_sampler
    from mbsearch.study.opening import drive

    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--storage")
    parser.add_argument("--ray")
    given = parser.parse_args()
    # A promotion changes the record of a completed trial; here no record may change.
    space = load_specification(FORMER_V2).with_settings({"promotion": Promotion(share=0)})
    evaluator = FakeEvaluator(
        seconds=given.seconds, epochs=space.settings.proxy.epochs, bad_resolutions=(96, 128)
    )
    with drive(given.folder, space.name, given.storage) as (store, _):
        done = len(store.search.get_trials(deepcopy=False))
        store.search.sampler = make_sampler("random", space, seed=0, trials=done)
        executor: Executor
        if given.ray is None:
            executor = LocalProcesses(evaluator, given.jobs, imports=["mbsearch.cost"])
        else:
            from mbsearch.execution.ray import RayCluster

            executor = RayCluster(evaluator, given.ray)
        try:
            Driver(store, space, executor, given.trials, seed=0).run()
        finally:
            executor.close()


if __name__ == "__main__":
    main()
