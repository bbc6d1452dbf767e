"""Studies for the dashboard; run as a program, a search in another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_search
import numpy as np
from fake_evaluator import FakeEvaluator

from mbsearch.analysis.front import front_of, knee_of
from mbsearch.config.racing_settings import Racing
from mbsearch.config.specification import SearchSpecification
from mbsearch.study.audit_file import AUDIT, Audit, RankAgreement
from mbsearch.study.latency_file import LATENCY
from mbsearch.study.opening import read_study
from mbsearch.study.records import Predictions
from mbsearch.study.retrained_file import RETRAINED

TINY = fake_search.TINY
PLAIN = TINY.with_settings({"racing": Racing(rungs=())})
"""The space without early stopping."""
AUDITED = Audit(
    "tiny",
    "embedded",
    "30 epochs",
    24,
    7.25,
    0.012,
    [
        RankAgreement("mult_adds", 0.5, 0.25, 0.75, (0.4, 0.3, 0.2), 0.02),
        RankAgreement("proxy", 0.75, 0.5, 0.875, (0.5, 0.6, 0.1), 0.01),
    ],
)


def search(
    folder: Path, trials: int, *, fails: bool = False, space: SearchSpecification = TINY
) -> None:
    """Run a random search with three epochs per training."""
    evaluator = FakeEvaluator(epochs=3, fails=fails)
    fake_search.search(folder, trials=trials, evaluator=evaluator, space=space)


def search_elsewhere(folder: Path, trials: int, *, racing: bool = True) -> None:
    """Run the search in another process, like a user beside the dashboard."""
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-m", "dashboard.studies", str(folder), str(trials)]
    if not racing:
        command.append("--plain")
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": tests})


def measure_front(folder: Path) -> None:
    """Write latencies, an audit and retraining results beside a study."""
    rows = [
        {
            "name": record.label,
            "alpha": record.architecture.alpha,
            "resolution": record.architecture.resolution.plain,
            "mult_adds": record.mult_adds,
            "engine": "torch",
            "threads": 1,
            "runs": 10,
            "fingerprint": record.fingerprint,
            "lower_quartile_seconds": 0.002 + i / 1000,
            "median_seconds": 0.0025 + i / 1000,
            "upper_quartile_seconds": 0.004 + i / 1000,
        }
        for i, record in enumerate(front_of(read_study(folder).records()))
    ]
    (folder / LATENCY).write_text(json.dumps({"networks": rows}))
    (folder / AUDIT).write_text(json.dumps(AUDITED.to_dict()))
    knee = knee_of(read_study(folder).records())
    row: dict[str, Any] = {
        "name": "trial 1",
        "fingerprint": knee.fingerprint,
        "rival_of": None,
        "mult_adds": 10**6,
        "proxy_accuracy": 0.7,
        "seeds": [0, 1],
        "family": "search",
        "alpha": 0.5,
        "resolution": 96,
        "pixels": 24,
        "seconds": 9.0,
        "accuracies": [0.909, 0.915],
        "predictions": [_predictions(seed).to_dict() for seed in (0, 1)],
    }
    retrained = {
        "settings": {"test_images": 100},
        "networks": [row],
        "leads": [{"candidate": "trial 1", "sentence": "trial 1 is ahead"}],
    }
    (folder / RETRAINED).write_text(json.dumps(retrained))


def _predictions(seed: int) -> Predictions:
    """Return predictions of 100 images of ten classes, of which nine are wrong."""
    labels = np.arange(100, dtype=np.uint16) % 10
    predicted = labels.copy()
    predicted[seed : seed + 9] = (predicted[seed : seed + 9] + 1) % 10
    return Predictions(labels, predicted, np.full(100, 200, np.uint8))


if __name__ == "__main__":
    given, count, *options = sys.argv[1:]
    search(Path(given), int(count), space=PLAIN if options else TINY)
