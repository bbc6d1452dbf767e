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
