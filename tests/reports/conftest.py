"""Fixtures that run the command line of this checkout, or of the one named by MBSEARCH."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

_HERE = Path(__file__).parents[2]
# Only keys that older versions know.
_SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, stride: 2, expansion: {choices: [3, 6]}}
head: {channels: 32}
proxy: {epochs: 1, train_images: null, validation_images: null}
"""


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


Mbsearch = Callable[..., Ran]


@pytest.fixture
def mbsearch(tmp_path: Path) -> Mbsearch:
    """Return a function that runs ``mbsearch`` with arguments.

    MBSEARCH=PATH selects the checkout at that path.
    """
    version = os.environ.get("MBSEARCH", str(_HERE))
    environment = os.environ | {
        "PYTHONPATH": version,
        "MBSEARCH_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }

    def run(*arguments: str | Path) -> Ran:
        command = [sys.executable, "-m", "mbsearch", *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=300,
            check=False,
        )
        return Ran(done.returncode, done.stdout)

    return run


@pytest.fixture
def dry_run(mbsearch: Mbsearch, tmp_path: Path) -> Callable[..., Ran]:
    """Return a function that reads a folder of images as ``run --dry-run`` does.

    A version without --dry-run trains a network.
    """
    space = tmp_path / "small.yaml"
    space.write_text(_SPACE)

    def read(photos: Path, *options: str) -> Ran:
        arguments = ("run", "--data", photos, "--space", space, *options)
        found = mbsearch(*arguments, "--weights", "none", "--dry-run")
        if "No such option" in found.text and "--skip-damaged" not in options:
            return mbsearch(*arguments, "--trials", "1", "--jobs", "1")
        return found

    return read
