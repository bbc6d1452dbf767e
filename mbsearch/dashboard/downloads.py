"""Export a network in all formats as a ZIP file, in a separate process.

Exporting takes seconds and needs torch, which the dashboard does not import.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mbsearch.errors import ExportError

_TIMEOUT = 300  # seconds


def zipped_export(study: Sequence[str], trial: int) -> bytes:
    """Return a ZIP file of the folder that ``mbsearch export STUDY --trial N`` writes.

    Args:
        study: the arguments that name the study.
        trial: number of the trial.

    Raises:
        ExportError: the command failed, or took longer than five minutes.
    """
    with tempfile.TemporaryDirectory(prefix="mbsearch-export-") as scratch:
        folder = Path(scratch) / f"trial-{trial}"
        command = [sys.executable, "-m", "mbsearch", "export", *study]
        try:
            done = subprocess.run(
                [*command, "--trial", str(trial), "--output", str(folder)],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ExportError(f"trial {trial}: no export after {_TIMEOUT} s") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise ExportError(f"trial {trial}: {lines[-1].removeprefix('error: ')}")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder.parent))
        return archive.getvalue()
