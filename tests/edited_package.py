"""Run a script with a copy of the package in which one file is edited."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mbsearch

PACKAGE = Path(mbsearch.__file__).parent


def run_edited(folder: Path, file: str, old: str, new: str, script: str) -> str:
    """Return the output of a script, run with `old` replaced by `new` in one package file.

    `file` is relative to the package. All other files are links to the real ones.
    """
    copy = folder / "mbsearch"
    _link_around(PACKAGE, copy, Path(file).parts)
    (folder / "search_spaces").symlink_to(PACKAGE.parent / "search_spaces")
    text = (PACKAGE / file).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _link_around(source: Path, copy: Path, parts: tuple[str, ...]) -> None:
    """Link all entries of a folder, except for the file at `parts` and its parent folders."""
    copy.mkdir()
    for entry in source.iterdir():
        if entry.name != parts[0]:
            (copy / entry.name).symlink_to(entry)
    if len(parts) > 1:
        _link_around(source / parts[0], copy / parts[0], parts[1:])
