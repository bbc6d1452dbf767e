"""Export of a network in all formats as a ZIP file, in a process of its own.

Exporting takes seconds and needs torch, which the dashboard does not import.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mbsearch.errors import ExportError

_TIMEOUT = 300  # seconds


def zipped_export(study: Sequence[str], trial: int, environment: Mapping[str, str]) -> bytes:
    """Return the folder of ``mbsearch export STUDY --trial N -o FOLDER`` as a ZIP file.

    Args:
        study: the arguments that name the study.
        trial: number of the trial.
        environment: variables that name the study's database.

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
                env=os.environ | environment,
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
