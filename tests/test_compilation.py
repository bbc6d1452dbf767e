from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from numba import njit

from mbsearch.accel import precompilation
from mbsearch.accel.kernels import jit, steps
from mbsearch.training.loop import compile_ahead

COMPILE = """
import logging, sys
import torch
from mbsearch.training.loop import compile_ahead
torch.cpu._is_amx_tile_supported = lambda: True  # fewer kernels, a shorter test
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
compile_ahead(torch.device("cpu"))
"""
IMPORT = """
import sys
import mbsearch.data.sources, mbsearch.training.long_training, mbsearch.training.preparations
import mbsearch.training.proxy
print("numba" in sys.modules)
"""
KERNEL = """
from mbsearch.accel.kernels.jit import compiled

@compiled
def doubled(x):
    for i in range(x.size):
        x[i] *= 2
"""


def output(code: str, **environment: str) -> str:
    """What a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_kernels_are_compiled_once_with_one_line_of_output(tmp_path: Path) -> None:
    assert "compiling" in output(COMPILE, NUMBA_CACHE_DIR=str(tmp_path))
    assert output(COMPILE, NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_importing_training_does_not_import_numba() -> None:
    """So its configuration is unchanged until the first network is accelerated."""
    assert output(IMPORT) == "False\n"


def test_nothing_is_compiled_without_acceleration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBSEARCH_ACCEL", "0")
    monkeypatch.setattr(precompilation, "compile_kernels", lambda *_, **__: pytest.fail("compiled"))
    compile_ahead(torch.device("cpu"))


def test_a_compilation_in_another_process_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        steps, "normalize", SimpleNamespace(stats=SimpleNamespace(cache_path=tmp_path))
    )
    monkeypatch.setattr(precompilation, "_key", lambda _: "key")
    monkeypatch.setattr(precompilation, "train_a_step", lambda _: pytest.fail("compiled twice"))
    with ThreadPoolExecutor(1) as pool, FileLock(tmp_path / "compiled-key.lock"):
        waiting = pool.submit(compile_ahead, torch.device("cpu"))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        (tmp_path / "compiled-key").touch()
    waiting.result()


def test_nothing_is_compiled_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precompilation, "compile_kernels", lambda **_: pytest.fail("compiled"))
    compile_ahead(torch.device("cuda"))


def test_a_missing_cache_folder_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(steps, "normalize", njit(lambda x: x))  # one without a cache
    compile_ahead(torch.device("cpu"))
    assert ["NUMBA_CACHE_DIR" in line for line in caplog.messages] == [True]


def cache_hits(file: Path) -> int:
    """Compiled versions of a file's kernel that were loaded from the cache."""
    spec = importlib.util.spec_from_file_location("made", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.doubled(np.ones(3, np.float32))
    return sum(module.doubled.stats.cache_hits.values())


def test_a_kernel_is_compiled_again_when_any_file_of_the_kernels_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "made.py"
    file.write_text(KERNEL)
    assert [cache_hits(file), cache_hits(file)] == [0, 1]
    monkeypatch.setattr(jit, "sources_hash", lambda: "of changed files")
    assert [cache_hits(file), cache_hits(file)] == [0, 1]
