"""The package, `count` and `status` work without the slow libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_evaluator import FakeEvaluator

import mbsearch as mb
from mbsearch.config.specification import load_specification

HIDDEN = ("torch", "torchvision", "numba", "dash")
HIDE = f"""
import sys

for name in {HIDDEN!r}:
    sys.modules[name] = None  # an import of it raises ImportError
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HIDE + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "small"
    space = load_specification("tiny")
    mb.run(space, trials=3, folder=folder, jobs=1, evaluator=FakeEvaluator(), progress=False)
    return folder


def test_the_package_is_imported_without_them() -> None:
    assert run("import mbsearch; print(mbsearch.load('v2').name)") == "v2\n"


def test_networks_are_counted_without_them() -> None:
    code = "from mbsearch.cli import main; main(sys.argv[1:])"
    assert "Mult-Adds" in run(code, "count", "v2")


def test_a_study_is_shown_without_them(study: Path) -> None:
    code = "from mbsearch.cli import main; main(sys.argv[1:])"
    assert "Pareto front" in run(code, "status", str(study))
