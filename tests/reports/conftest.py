"""Fixtures that run the command line of this checkout, or of the one named by MBSEARCH."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from .command_line import Ran, in_process_of_its_own, in_this_process

# Only keys that older versions know.
SMALL_SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, stride: 2, expansion: {choices: [3, 6]}}
head: {channels: 32}
proxy: {epochs: 1, train_images: null, validation_images: null}
"""


Mbsearch = Callable[..., Ran]


def commands_in(folder: Path, *, own_cache: bool = True) -> Mbsearch:
    """Return a function that runs ``mbsearch`` in a folder; MBSEARCH=PATH takes that checkout.

    This checkout runs in this process, its trainings too. Keywords are variables of the
    environment, and take a process of its own. The cache is in the folder, or if `own_cache` is
    false where the environment has it.
    """
    environment = {"OMP_NUM_THREADS": "1"}
    if own_cache:
        environment["MBSEARCH_CACHE"] = str(folder / "cache")

    def run(*arguments: str | Path, **variables: str) -> Ran:
        if "MBSEARCH" not in os.environ and not variables:
            from .in_process import training_in_this_process

            with training_in_this_process():
                return in_this_process(folder, *arguments, **environment)
        return in_process_of_its_own(folder, *arguments, **environment | variables)

    return run


def search_with(mbsearch: Mbsearch, *arguments: str | Path) -> Ran:
    """Run a search from scratch without finals and export, options that older versions lack."""
    found = mbsearch("run", *arguments, "--weights", "none", "--finals", "0", "--no-export")
    return mbsearch("run", *arguments) if "No such option" in found.text else found


@pytest.fixture
def mbsearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mbsearch:
    """Runs ``mbsearch`` with its arguments in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return commands_in(tmp_path, own_cache=False)


@pytest.fixture
def dry_run(mbsearch: Mbsearch, tmp_path: Path) -> Callable[..., Ran]:
    """Return a function that reads a folder of images as ``run --dry-run`` does.

    A version without --dry-run trains a network.
    """
    space = tmp_path / "small.yaml"
    space.write_text(SMALL_SPACE)

    def read(photos: Path, *options: str) -> Ran:
        arguments = ("run", "--data", photos, "--space", space, *options)
        found = mbsearch(*arguments, "--weights", "none", "--dry-run")
        if "No such option" in found.text and "--skip-damaged" not in options:
            return mbsearch(*arguments, "--trials", "1", "--jobs", "1")
        return found

    return read
