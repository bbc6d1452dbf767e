"""Log the learning curve of each trial for `tensorboard --logdir runs`.

    pip install 'mbsearch[tracking]'
    python examples/track_in_tensorboard.py [FOLDER]

FOLDER is where the study is kept; `results/example` by default.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

import mbsearch as mb

if TYPE_CHECKING:
    from mbsearch.study.records import TrialRecord

SPACE = Path(__file__).with_name("small_space.yaml")
RUNS = Path("runs")


def log_trial(record: TrialRecord) -> None:
    """Log a trial: its costs, and the learning curve of its screening."""
    with SummaryWriter(str(RUNS / record.slug)) as writer:
        for cost, amount in record.costs.items():
            writer.add_scalar(f"cost/{cost}", amount)
        if record.evaluation is None:  # the training failed
            return
        for epoch, each in enumerate(record.evaluation.curve, start=1):
            writer.add_scalar("validation accuracy", each.validation_accuracy, epoch)
            writer.add_scalar("validation loss", each.validation_loss, epoch)


def main(folder: str) -> None:
    """Train four networks and a MobileNetV1, and count the runs that TensorBoard shows."""
    mb.run(mb.load(str(SPACE)), trials=4, folder=folder, on_trial=log_trial)
    print(f"{len(list(RUNS.iterdir()))} runs for TensorBoard")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results/example")
