"""The table of formats, and the export of one network in several of them."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mbsearch.errors import ExportError, did_you_mean
from mbsearch.export import graphs, mobile, python_files
from mbsearch.export.job import Job, Runner

TOLERANCE = 1e-5
"""Relative error (of the vector of logits) up to which a file is the network.

Where the network's own rounding is larger, as with channels that hardly vary and so are scaled up
by their normalisation, a file may be off by `_ROUNDINGS` times that: the order of the sums differs.
"""
_ROUNDINGS = 4

_CHECKED_BATCHES = (1, 3)


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its file, the packages that it needs, and both directions.

    `read` runs what it finds in a folder; from the job it takes only what the file cannot hold.
    `optional` formats are left out, with a note, where they have no words for a network.
    """

    name: str
    file: str
    write: Callable[[Job, Path], None]
    read: Callable[[Job, Path], Runner]
    packages: tuple[str, ...] = ()
    extra: str = "export"
    optional: bool = False


FORMATS = {
    each.name: each
    for each in (
        Format("yaml", python_files.ARCHITECTURE, python_files.write_yaml, python_files.read_yaml),
        Format(
            "pytorch",
            python_files.SOURCE,
            python_files.write_pytorch,
            python_files.read_pytorch,
            packages=("safetensors",),
        ),
        Format("torch-export", graphs.PROGRAM, graphs.write_program, graphs.read_program),
        Format(
            "onnx",
            graphs.ONNX,
            graphs.write_onnx,
            graphs.read_onnx,
            packages=("onnx", "onnxscript", "onnxruntime"),
        ),
        Format(
            "timm",
            python_files.TIMM,
            python_files.write_timm,
            python_files.read_timm,
            packages=("timm",),
            optional=True,
        ),
        Format(
            "executorch",
            mobile.EXECUTORCH,
            mobile.write_executorch,
            mobile.read_executorch,
            packages=("executorch",),
            extra="executorch",
        ),
        Format(
            "litert",
            mobile.LITERT,
            mobile.write_litert,
            mobile.read_litert,
            packages=("litert_torch", "ai_edge_litert"),
            extra="litert",
        ),
    )
}
DEFAULT_FORMATS = tuple(f.name for f in FORMATS.values() if f.extra == "export")


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was read back, and how far its logits were from the module's; or why it is not.

    `error` is the relative error, the larger of a batch of one and of three random images.
    """

    format: str
    file: str
    error: float | None
    note: str | None = None


def require(names: Sequence[str]) -> list[Format]:
    """The formats of these names, whose packages are all there.

    Raises:
        ExportError: a name is unknown, or packages are missing; one message has the command that
            installs them.
    """
    for name in names:
        if name not in FORMATS:
            raise ExportError(
                f"--formats: expected some of {', '.join(FORMATS)}, got {name!r}"
                + did_you_mean(name, FORMATS)
            )
    chosen = [FORMATS[name] for name in dict.fromkeys(names)]
    missing = {
        package: each
        for each in chosen
        for package in each.packages
        if importlib.util.find_spec(package) is None
    }
    if missing:
        needed = ", ".join(dict.fromkeys(each.name for each in missing.values()))
        extras = ",".join(sorted({each.extra for each in missing.values()}))
        raise ExportError(
            f"{needed}: expected the packages {', '.join(missing)}, which are not installed; "
            f"run: pip install 'mbsearch[{extras}]'"
        )
    return chosen


def export(job: Job, folder: Path, names: Sequence[str] = DEFAULT_FORMATS) -> list[Written]:
    """Write a network in several formats, and read every file back.

    The files appear in `folder` together, when all of them have been checked; files of other names
    that are there stay.

    Raises:
        ExportError: packages are missing, a format cannot hold the network, its logits differ from
            the module's by more than rounding explains, or the folder cannot be written.
    """
    chosen = require(names)
    job.network.eval()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder if folder.is_dir() else folder.parent  # that of a mount may be read-only
        with tempfile.TemporaryDirectory(dir=beside, prefix=f".{folder.name}.") as made:
            staging, logits = Path(made), _Logits.of(job)
            written = [
                _written(each, job, staging, logits, explicit=len(chosen) == 1) for each in chosen
            ]
            folder.mkdir(exist_ok=True)
            for path in staging.iterdir():
                shutil.move(path, folder / path.name)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return written


def _written(each: Format, job: Job, folder: Path, logits: _Logits, *, explicit: bool) -> Written:
    try:
        each.write(job, folder)
    except ExportError as error:
        if not each.optional or explicit:
            raise
        return Written(each.name, each.file, None, str(error))
    found, allowed = logits.error(each.read(job, folder)), logits.allowed
    if not found <= allowed:
        message = (
            f"{each.file}: expected the logits of the network to a relative error of "
            f"{allowed:.0e}, got {found:.1e}"
        )
        if not each.optional or explicit:
            raise ExportError(message)
        (folder / each.file).unlink()
        return Written(each.name, each.file, None, message)
    return Written(each.name, each.file, found)


@dataclass(frozen=True, slots=True)
class _Logits:
    """Batches of random images, the network's logits of them, and how far a file may be off."""

    batches: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]
    allowed: float

    @classmethod
    @torch.inference_mode()
    def of(cls, job: Job) -> _Logits:
        side = job.side
        exact = deepcopy(job.network).double()
        generator = torch.Generator().manual_seed(0)
        batches = tuple(
            torch.randn(count, 3, side, side, generator=generator) for count in _CHECKED_BATCHES
        )
        expected = tuple(job.network(images) for images in batches)
        rounding = max(
            _distance(logits, exact(images.double()))
            for logits, images in zip(expected, batches, strict=True)
        )
        return cls(batches, expected, max(TOLERANCE, _ROUNDINGS * rounding))

    @torch.inference_mode()
    def error(self, run: Runner) -> float:
        """The largest relative error over the batches."""
        return max(
            _distance(run(images), logits)
            for images, logits in zip(self.batches, self.expected, strict=True)
        )


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
