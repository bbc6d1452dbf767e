"""Compare resolution schedules of finals by accuracy and CPU seconds on one reference.

python benchmarks/finals.py FOLDER --family mobilenet_v2 --alpha 0.17 --resolution 160
"""

from __future__ import annotations

import argparse
import time

from mbsearch.config.families import scaled_reference
from mbsearch.config.finals_settings import Finals
from mbsearch.config.proxy_settings import Proxy
from mbsearch.data.sources import load_source
from mbsearch.execution.protocol import Task
from mbsearch.study.records import Fidelity
from mbsearch.training.devices import choose_device, prepare_worker
from mbsearch.training.loop import compile_ahead
from mbsearch.training.proxy import ProxyTraining

SCHEDULES = {
    "own pixels throughout": ((), 14),
    "half until 50 %": (((0.5, 0.5),), 24),
    "half until 80 %": (((0.8, 0.5),), 24),
}
"""Schedule and epochs by name; the first two have about equal Mult-Adds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="image folder")
    parser.add_argument("--family", default="mobilenet_v2", help="reference")
    parser.add_argument("--alpha", type=float, default=0.17, help="width multiplier")
    parser.add_argument("--resolution", type=int, default=160, help="resolution of the network")
    parser.add_argument("--seed", type=int, default=0, help="seed of the trainings")
    given = parser.parse_args()
    prepare_worker()
    compile_ahead(choose_device("cpu"))
    classes = load_source(given.data, seed=0).num_classes
    network = scaled_reference(given.family, given.alpha, given.resolution, classes)
    for name, (progressive, epochs) in SCHEDULES.items():
        evaluator = ProxyTraining(
            Proxy(), given.data, device="cpu", finals=Finals(progressive=progressive)
        )
        started = time.process_time()
        task = Task(network, given.seed, fidelity=Fidelity.FINAL, epochs=epochs)
        found = evaluator.evaluate(task).evaluation
        before = max((e for e in range(epochs) if _smaller(progressive, e, epochs)), default=None)
        at = "" if before is None else f", {found.curve[before].validation_accuracy:.3f} before it"
        print(
            f"{name}, {epochs} epochs: accuracy {found.accuracy:.3f}{at}, loss "
            f"{found.validation_loss:.3f}, {time.process_time() - started:.0f} CPU s",
            flush=True,
        )


def _smaller(progressive: tuple[tuple[float, float], ...], epoch: int, epochs: int) -> bool:
    return Finals(progressive=progressive).pixel_scale(epoch, epochs) < 1


if __name__ == "__main__":
    main()
