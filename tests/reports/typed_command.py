"""A command as it is typed, in this process; in one of its own if MBSEARCH names a version."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path

from mbsearch.cli import main
from reports.conftest import Ran


def typed(folder: Path, *arguments: str | Path) -> Ran:
    """Run a command in a folder; return its exit code, and what it printed."""
    words = [os.fspath(argument) for argument in arguments]
    if "MBSEARCH" in os.environ:
        return _in_another_process(folder, words)
    stream = TextIOWrapper(BytesIO(), encoding="utf-8", errors="replace", write_through=True)
    with chdir(folder), redirect_stdout(stream), redirect_stderr(stream):
        try:
            main(words)
            code: object = 0
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int | None)
    stream.seek(0)
    return Ran(code or 0, stream.read())


def _in_another_process(folder: Path, words: list[str]) -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "mbsearch", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.environ["MBSEARCH"], "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout)
