"""Exports of a network as a ZIP file, each in a process of its own, with progress.

Exporting takes seconds and needs torch, which the dashboard does not import.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from mbsearch.errors import ExportError

DEFAULT_FORMATS = ("yaml", "pytorch", "torch-export", "onnx")
FORMATS = (*DEFAULT_FORMATS, "timm", "executorch", "litert", "litert-int8", "c-array")
WRITING = "writing "
"""Begins the line that `mbsearch export` logs before each format."""
_TIMEOUT = 300  # seconds


@dataclass
class ExportJob:
    """A running or ended export; `archive` is the ZIP file, `error` says why it failed."""

    formats: tuple[str, ...]
    begun: list[str] = field(default_factory=list)
    archive: bytes | None = None
    error: str | None = None
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Time that it has taken so far."""
        return (self.ended or time.monotonic()) - self.started

    def status(self) -> str:
        """Return the progress in a line: ``onnx: format 3 of 5, 12 s``."""
        if self.error is not None:
            return self.error
        count = len(self.formats)
        noun = "format" if count == 1 else "formats"
        if self.ended is not None:
            return f"Exported {count} {noun} in {self.seconds:.0f} s"
        if not self.begun:
            return f"Export of {count} {noun} starts, {self.seconds:.0f} s"
        return f"{self.begun[-1]}: format {len(self.begun)} of {count}, {self.seconds:.0f} s"


class Exports:
    """The exports of a dashboard. One runs at a time; the others wait."""

    def __init__(self) -> None:
        self._jobs: dict[str, ExportJob] = {}
        self._running = threading.Lock()

    def start(
        self,
        study: Sequence[str],
        trial: int,
        formats: Sequence[str],
        environment: Mapping[str, str],
    ) -> str:
        """Start ``mbsearch export STUDY --trial N`` in the background; return the job's key."""
        key, job = uuid4().hex, ExportJob(tuple(formats))
        self._jobs[key] = job
        thread = threading.Thread(
            target=self._run, args=(job, study, trial, environment), daemon=True
        )
        thread.start()
        return key

    def job(self, key: str) -> ExportJob | None:
        """Return a job; None if its end was already returned or an earlier server started it."""
        job = self._jobs.get(key)
        if job is not None and job.ended is not None:
            del self._jobs[key]  # an archive has megabytes
        return job

    def _run(
        self, job: ExportJob, study: Sequence[str], trial: int, environment: Mapping[str, str]
    ) -> None:
        with self._running:
            try:
                job.archive = zipped_export(study, trial, job, environment)
            except (ExportError, OSError) as error:  # a full disk, for example
                job.error = str(error)
            finally:
                job.ended = time.monotonic()


def zipped_export(
    study: Sequence[str], trial: int, job: ExportJob, environment: Mapping[str, str]
) -> bytes:
    """Return a ZIP file of the folder that ``mbsearch export STUDY --trial N`` writes.

    Args:
        study: the arguments that name the study.
        trial: number of the trial.
        job: has the formats, and receives the name of each one that begins.
        environment: variables that name the study's database.

    Raises:
        ExportError: the command failed, or took longer than five minutes.
    """
    with tempfile.TemporaryDirectory(prefix="mbsearch-export-") as scratch:
        folder = Path(scratch) / f"trial-{trial}"
        command = [sys.executable, "-m", "mbsearch", "export", *study, "--trial", str(trial)]
        command += ["--output", str(folder), "--formats", ",".join(job.formats)]
        lines = []
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        ) as process:
            timer = threading.Timer(_TIMEOUT, process.kill)
            timer.start()
            assert process.stderr is not None
            for line in process.stderr:
                lines.append(line.strip())
                if line.startswith(WRITING):
                    job.begun.append(line.removeprefix(WRITING).strip())
            timed_out = not timer.is_alive()
            timer.cancel()
        if timed_out:
            raise ExportError(f"trial {trial}: no export after {_TIMEOUT} s")
        if process.returncode != 0:
            last = next((line for line in reversed(lines) if line), "no message")
            raise ExportError(f"trial {trial}: {last.removeprefix('error: ')}")
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder.parent))
        return archive.getvalue()
