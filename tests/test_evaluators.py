"""Adding an evaluator touches one file: the class that keeps execution/protocol.py."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import mbsearch as mb
from mbsearch.config.specification import load_specification
from mbsearch.errors import StorageError
from mbsearch.execution.local import evaluated
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.study.records import Epoch, Evaluation

LINE = re.compile(r"trial \d+ \(.+\): accuracy 0\.\d{3}, [0-9.]+ M Mult-Adds( \(left [0-9:]+\))?")


@dataclass(frozen=True)
class Toy:
    """Accuracy by resolution."""

    slope: float = 0.5

    def evaluate(self, task: Task) -> Outcome:
        accuracy = self.slope * task.architecture.rho
        return Outcome(
            Evaluation(
                accuracy=accuracy,
                validation_loss=1 - accuracy,
                seconds=0.0,
                seed=task.seed,
                pixels=task.architecture.resolution,
                curve=(Epoch(1.0, 1.0, accuracy, 0.0),),
                evaluator="toy",
                recipe={},
                device="none",
            )
        )


@dataclass(frozen=True)
class Other(Toy):
    """Another evaluator."""


def search(folder: Path, trials: int, evaluator: Toy, *, progress: bool = True) -> int:
    """Number of candidates after a search with one worker."""
    frame = mb.run(
        load_specification("tiny"),
        trials=trials,
        folder=folder,
        jobs=1,
        evaluator=evaluator,
        progress=progress,
    )
    assert frame["accuracy"].notna().all()
    return int((frame["origin"] == "search").sum())


def test_a_toy_evaluator_searches_and_shows_a_line_a_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a study in a folder whose long name would wrap on a narrow terminal"
    assert search(folder, 3, Toy()) == 3
    shown = capsys.readouterr().err.splitlines()
    trials = [line for line in shown if line.startswith("trial ")]
    assert len(trials) >= 3
    assert [line for line in trials if not LINE.fullmatch(line)] == []
    assert any(line.startswith("trials: 3 by 1 workers") for line in shown)
    assert search(folder, 5, Toy()) == 5
    assert "resuming: 3 of 5 trials are completed" in capsys.readouterr().err.splitlines()
    with pytest.raises(StorageError, match=r"other settings \(data was '.*Toy' and is '.*Other'\)"):
        search(folder, 5, Other())


def test_a_search_is_silent_on_request_and_restores_the_logger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("mbsearch")
    before = (logger.level, list(logger.handlers))
    search(tmp_path / "shown", 1, Toy())
    assert (logger.level, list(logger.handlers)) == before
    capsys.readouterr()
    search(tmp_path / "silent", 1, Toy(), progress=False)
    assert capsys.readouterr() == ("", "")


SCRIPT = """
import mbsearch as mb

space = mb.load("tiny")
proxy = {"train_images": 64, "validation_images": 100, "epochs": 1}
space = space.with_settings(
    {
        "baselines": (),
        "finals": space.settings.finals.model_copy(update={"minutes": 0}),
        "proxy": space.settings.proxy.model_copy(update=proxy),
    }
)
print(len(mb.run(space, trials=2, jobs=1)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("from_stdin", [False, True])
def test_scripts_and_heredocs_show_plain_lines(tmp_path: Path, from_stdin: bool) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-" if from_stdin else "script.py"],
        input=SCRIPT if from_stdin else None,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2\n"
    trials = [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    assert len(trials) == 2
    assert [line for line in trials if not LINE.fullmatch(line)] == []
    assert "\x1b" not in done.stderr


@dataclass(frozen=True)
class WithoutCurve(Toy):
    """It returns no epoch."""

    def evaluate(self, task: Task) -> Outcome:
        return Outcome(replace(super().evaluate(task).evaluation, curve=()))


def test_an_evaluation_without_an_epoch_is_an_error_of_its_trial() -> None:
    finished = evaluated(WithoutCurve(), 7, Task(load_specification("tiny").sample(0), seed=0))
    assert finished.outcome is None
    assert finished.error == "expected a learning curve of one epoch or more, got none"
