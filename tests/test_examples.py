"""Every script of `examples/` runs as its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
EXPECTED = {
    "count_and_build": "mobilenet_v2: 10,666,928 Mult-Adds",
    "sampler_in_optuna": "accuracy 0.9",
    "small_search": "mobilenet_v1",
}


def test_every_example_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    script = [sys.executable, str(EXAMPLES / f"{name}.py")]
    folder = [str(tmp_path / "study")] if name == "small_search" else []
    ran = subprocess.run([*script, *folder], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert EXPECTED[name] in ran.stdout
