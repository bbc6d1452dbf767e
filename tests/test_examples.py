"""Every script and notebook of `examples/` runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
EXPECTED = {
    "count_and_build": "mobilenet_v2: 10,666,928 Mult-Adds",
    "own_evaluator": "mobilenet_v1",
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


@pytest.mark.slow
def test_the_notebook_runs_and_shows_the_trials_it_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the notebook keeps its study
    notebook = nbformat.read(  # type: ignore[no-untyped-call]
        EXAMPLES / "first_search.ipynb", as_version=4
    )
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [str(out) for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("mobilenet_v2" in out and "accuracy" in out for out in shown)
    assert any("torch.Size([1, 10])" in out for out in shown)
