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
{before}
compile_kernels(torch.device("cpu"), print)
"""
BFLOAT16 = "torch.cpu._is_avx512_bf16_supported = lambda: True"
FLOAT32 = "torch.cpu._is_avx512_bf16_supported = lambda: False"


def said(folder: Path, before: str) -> str:
    """What a new process says that keeps compiled kernels in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", CALL.format(before=before)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("before", [BFLOAT16, FLOAT32], ids=["bfloat16", "float32"])
def test_kernels_are_compiled_once_and_it_is_said(tmp_path: Path, before: str) -> None:
    assert "compiling" in said(tmp_path, before)
    assert said(tmp_path, before) == ""


def test_a_gpu_needs_none() -> None:
    lines: list[str] = []
    compile_kernels(torch.device("cuda"), lines.append)
    assert not lines
