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
    "track_in_mlflow": "5 runs in MLflow",
    "track_in_tensorboard": "5 runs for TensorBoard",
}
WITHOUT_A_STUDY = ("count_and_build", "sampler_in_optuna")
NEEDED = {"track_in_mlflow": "mlflow", "track_in_tensorboard": "tensorboard"}


def test_every_example_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    script = [sys.executable, str(EXAMPLES / f"{name}.py")]
    folder = [str(tmp_path / "study")] if name not in WITHOUT_A_STUDY else []
    ran = subprocess.run([*script, *folder], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert EXPECTED[name] in ran.stdout
