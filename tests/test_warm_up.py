from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from numba import njit

from mbsearch.accel.kernels import passes, products, steps, taps
from mbsearch.training import warm_up
from mbsearch.training.warm_up import compile_kernels

CALL = """
import torch
from mbsearch.training.warm_up import compile_kernels
torch.cpu._is_amx_tile_supported = lambda: True  # fewer kernels, a shorter test
compile_kernels(torch.device("cpu"), print)
"""


def said(folder: Path) -> str:
    """What a new process says that keeps compiled kernels in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_kernels_are_compiled_once_and_it_is_said(tmp_path: Path) -> None:
    assert "compiling" in said(tmp_path)
    assert said(tmp_path) == ""


def test_what_another_run_compiles_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        steps, "normalise", SimpleNamespace(stats=SimpleNamespace(cache_path=tmp_path))
    )
    monkeypatch.setattr(warm_up, "_key", lambda _: "key")
    monkeypatch.setattr(warm_up, "build", lambda *_, **__: pytest.fail("compiled twice"))
    with ThreadPoolExecutor(1) as pool, FileLock(tmp_path / "compiled-key.lock"):
        waiting = pool.submit(compile_kernels, torch.device("cpu"), lambda _: None)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        (tmp_path / "compiled-key").touch()
    waiting.result()


def test_a_gpu_needs_none() -> None:
    lines: list[str] = []
    compile_kernels(torch.device("cuda"), lines.append)
    assert not lines


def test_where_nothing_can_be_kept_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "normalise", njit(lambda x: x))  # one without a cache
    lines: list[str] = []
    compile_kernels(torch.device("cpu"), lines.append)
    assert ["NUMBA_CACHE_DIR" in line for line in lines] == [True]


def test_a_chain_is_compiled_again_when_a_part_of_it_has_changed() -> None:
    """Numba looks at the file of a kernel only: the line below has to stand there, as a comment."""
    modules = (passes, products, steps, taps)
    parts = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    line = f"# Compiled with what it is made of at {blake2b(parts, digest_size=6).hexdigest()}."
    for file in sorted(Path(passes.__file__).parent.glob("chain_*.py")):
        assert line in file.read_text().splitlines(), f"{file.name}: expected {line!r}"
