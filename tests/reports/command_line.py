"""The command line in this process, which starts in milliseconds; that of MBSEARCH if it is set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from unittest.mock import patch

from mbsearch import cli
from mbsearch.config.specification import load_specification

VERSION = os.environ.get("MBSEARCH", os.fspath(Path(__file__).parents[2]))
"""Folder of the version that is tested."""


@dataclass(frozen=True)
class Ran:
    """Exit code and output of a command."""

    code: int
    text: str

    def refused(self) -> str:
        """Return the error line of a command that failed because of a user's mistake."""
        assert self.code == 2, self.text
        assert "Traceback" not in self.text
        errors = [line for line in self.text.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, self.text
        return errors[0]

    def passed(self) -> str:
        """Return the output of a command that succeeded without warnings."""
        assert self.code == 0, self.text
        assert "Warning" not in self.text
        return self.text


_TINY = load_specification("tiny")


def call(folder: Path, *arguments: str | Path, **environment: str) -> Ran:
    """Run a command in a folder, with variables of the environment."""
    own = "MBSEARCH" in os.environ
    run = in_process_of_its_own if own else in_this_process
    return run(folder, *arguments, **environment)


def in_this_process(folder: Path, *words: str | Path, **environment: str) -> Ran:
    """Run a command in this process, which saves the imports."""
    printed = BytesIO()
    stream = TextIOWrapper(printed, encoding="utf-8", write_through=True)
    code: object = 0
    with (
        chdir(folder),
        patch.dict(os.environ, environment),
        redirect_stdout(stream),
        redirect_stderr(stream),
    ):
        try:
            cli.main([os.fspath(word) for word in words])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int | None)
    return Ran(code or 0, printed.getvalue().decode(errors="replace"))


def in_process_of_its_own(folder: Path, *words: str | Path, **environment: str) -> Ran:
    """Run a command of the tested version in a process of its own, with more folders to import."""
    folders = [environment.pop("PYTHONPATH", ""), VERSION]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    done = subprocess.run(
        [sys.executable, "-m", "mbsearch", *(os.fspath(word) for word in words)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(errors="replace"))


def write_table(folder: Path) -> Path:
    """Write accuracies of all networks of the space ``tiny``, once."""
    path = folder / "truth.json"
    if not path.exists():
        networks = map(_TINY.decode, _TINY.enumerate_params())
        truth = {n.fingerprint: 0.5 + i / 1000 for i, n in enumerate(networks)}
        path.write_text(json.dumps(truth))
    return path


def search(folder: Path, *options: str, trials: int = 5, **environment: str) -> Ran:
    """Look up networks of the space ``tiny`` in a table; the study is in ``results/tiny``."""
    words = [
        "run",
        "--space",
        "tiny",
        "--jobs",
        "1",
        "--sampler",
        "random",
        "--trials",
        str(trials),
    ]
    return call(folder, *words, "--table", write_table(folder), *options, **environment)
