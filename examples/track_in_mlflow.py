"""Log each trial of a search as a run of MLflow, which `mlflow ui` shows.

    pip install 'mbsearch[tracking]'
    python examples/track_in_mlflow.py [FOLDER]

FOLDER is where the study is kept; `results/example` by default.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow

import mbsearch as mb

if TYPE_CHECKING:
    from mbsearch.study.records import TrialRecord

SPACE = Path(__file__).with_name("small_space.yaml")


def log_trial(record: TrialRecord) -> None:
    """Log a trial: its choices, costs and state, and the learning curve of its screening."""
    with mlflow.start_run(run_name=record.label):
        mlflow.set_tags({"state": record.state.word, "fingerprint": record.fingerprint})
        mlflow.log_params({"origin": record.origin, **record.params})
        mlflow.log_metrics(dict(record.costs))
        if record.evaluation is None:  # the training failed
            return
        for epoch, each in enumerate(record.evaluation.curve, start=1):
            mlflow.log_metric("validation_accuracy", each.validation_accuracy, step=epoch)


def main(folder: str) -> None:
    """Train four networks and a MobileNetV1, and count the runs that MLflow has."""
    experiment = mlflow.set_experiment("mbsearch")
    mb.run(mb.load(str(SPACE)), trials=4, folder=folder, on_trial=log_trial)
    runs = mlflow.search_runs([experiment.experiment_id], output_format="list")
    print(f"{len(runs)} runs in MLflow")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results/example")
