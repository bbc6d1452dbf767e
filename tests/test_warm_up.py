from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mbsearch.training.warm_up import compile_kernels

CALL = """
import torch
from mbsearch.training.warm_up import compile_kernels
compile_kernels(torch.device("cpu"), print)
"""


def said(folder: Path) -> str:
    """What a new process says that keeps compiled kernels in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", CALL], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.slow
def test_kernels_are_compiled_once_and_it_is_said(tmp_path: Path) -> None:
    assert "compiling" in said(tmp_path)
    assert said(tmp_path) == ""


def test_a_gpu_needs_none() -> None:
    lines: list[str] = []
    compile_kernels(torch.device("cuda"), lines.append)
    assert not lines
