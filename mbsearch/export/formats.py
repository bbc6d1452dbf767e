"""Table of the export formats, and the export of a network in several of them."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mbsearch.errors import ExportError, did_you_mean
from mbsearch.export import c_array, graphs, litert_int8, mobile_runtimes, python_files
from mbsearch.export.exportable import Exportable, Runner
from mbsearch.export.library_path import path_in_utf8

TOLERANCE = 1e-5
"""Largest relative error of the logits of an exported file.

If the network's own rounding error is larger, as with channels of small variance that batch
normalisation scales up, `_ROUNDINGS` times that error is allowed: the order of sums differs.
"""
_ROUNDINGS = 4
INT8_TOLERANCE = 0.1
"""Largest relative error of an int8 file to the logits of the network that is rounded as it is.

Runtimes round by rules of their own, so that a map differs by a step, which later layers carry on.
A network that int8 changes much carries on more: if its own error by int8 is larger, twice that is
allowed.
"""
_INT8_ROUNDINGS = 2

_CHECKED_BATCHES = (1, 3)


@dataclass(frozen=True, slots=True)
class Format:
    """An export format: its file, required packages, writer and reader.

    `beside` is a second file, if there is one: weights, or a C header. `read` returns a function
    that runs the file in a folder; what the file cannot hold comes from the exported network.
    `extra` is the extra of mbsearch that installs `packages`, None for plain dependencies.
    `optional` formats are left out, with a note, if they cannot express it. `int8` formats need
    the quantised network.
    """

    name: str
    file: str
    write: Callable[[Exportable, Path], None]
    read: Callable[[Exportable, Path], Runner]
    packages: tuple[str, ...] = ()
    extra: str | None = None
    optional: bool = False
    beside: str | None = None
    int8: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the format."""
        return (self.file,) if self.beside is None else (self.file, self.beside)


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
            beside=python_files.WEIGHTS,
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
            packages=("timm", "safetensors"),
            extra="export",
            optional=True,
            beside=python_files.TIMM_WEIGHTS,
        ),
        Format(
            "executorch",
            mobile_runtimes.EXECUTORCH,
            mobile_runtimes.write_executorch,
            mobile_runtimes.read_executorch,
            packages=("executorch",),
            extra="executorch",
        ),
        Format(
            "litert",
            mobile_runtimes.LITERT,
            mobile_runtimes.write_litert,
            mobile_runtimes.read_litert,
            packages=("litert_torch", "ai_edge_litert"),
            extra="litert",
        ),
        Format(
            "litert-int8",
            litert_int8.LITERT_INT8,
            litert_int8.write_litert_int8,
            litert_int8.read_litert_int8,
            packages=("ai_edge_litert",),
            extra="litert-int8",
            optional=True,
            int8=True,
        ),
        Format(
            "c-array",
            c_array.C_SOURCE,
            c_array.write_c_array,
            c_array.read_c_array,
            packages=("ai_edge_litert",),
            extra="litert-int8",
            beside=c_array.C_HEADER,
            optional=True,
            int8=True,
        ),
    )
}
FILE_FORMATS = {
    suffix: each
    for each in FORMATS.values()
    if (suffix := Path(each.file).suffix) != ".py" and not each.int8
}
"""The float formats whose file needs no other beside it, by its extension."""
_LOGGER = logging.getLogger(__name__)
DEFAULT_FORMATS = tuple(each.name for each in FORMATS.values() if each.extra is None)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """An exported file, with the error measured after reading it back.

    `error` is the relative error of its logits, the larger of a batch of one and of three random
    images; of an int8 file that to the rounded network on calibration images. It is None if the
    file was not written; `note` says why.
    """

    format: str
    file: str
    error: float | None
    note: str | None = None


def require(names: Sequence[str]) -> list[Format]:
    """Return the formats with these names; raise an error if their packages are missing.

    Raises:
        ExportError: a name is unknown, or packages are missing; the message has the command that
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
        extras = ",".join(sorted({each.extra for each in missing.values() if each.extra}))
        target = f"mbsearch[{extras}]" if extras else "mbsearch"
        raise ExportError(
            f"{needed}: expected the packages {', '.join(missing)}, which are not installed; "
            f"run: pip install '{target}'"
        )
    return chosen


def export(
    exportable: Exportable, folder: Path, names: Sequence[str] = DEFAULT_FORMATS
) -> list[WrittenFile]:
    """Write a network in several formats, and check every file by reading it back.

    The files appear in `folder` together, after all of them were checked. Files of other names
    there are kept.

    Raises:
        ExportError: packages are missing, a format cannot express the network, its logits differ by
            more than `TOLERANCE`, or the folder cannot be written.
    """
    chosen = require(names)
    exportable.module.eval()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = folder if folder.is_dir() else folder.parent  # a mount's parent may be read-only
        with (
            tempfile.TemporaryDirectory(dir=beside, prefix=f".{folder.name}.") as made,
            path_in_utf8(Path(made)) as staging,
        ):
            logits = {int8: _LOGITS[int8](exportable) for int8 in {e.int8 for e in chosen}}
            written = [
                _written(each, exportable, staging, logits[each.int8], explicit=len(chosen) == 1)
                for each in chosen
            ]
            folder.mkdir(exist_ok=True)
            for path in staging.iterdir():
                shutil.move(path, folder / path.name)
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return written


def _written(
    each: Format, exportable: Exportable, folder: Path, logits: _Logits, *, explicit: bool
) -> WrittenFile:
    _LOGGER.info(f"writing {each.name}")  # the dashboard counts these lines
    try:
        each.write(exportable, folder)
    except ExportError as error:
        if not each.optional or explicit:
            raise
        return WrittenFile(each.name, each.file, None, str(error))
    found, allowed = logits.error(each.read(exportable, folder)), logits.allowed
    if not found <= allowed:
        message = (
            f"{each.file}: expected the logits of the network to a relative error of "
            f"{allowed:.0e}, got {found:.1e}"
        )
        if not each.optional or explicit:
            raise ExportError(message)
        for file in each.files:
            (folder / file).unlink()
        return WrittenFile(each.name, each.file, None, message)
    return WrittenFile(each.name, each.file, found)


@dataclass(frozen=True, slots=True)
class _Logits:
    """Images, the network's logits for them, and the largest allowed error."""

    batches: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]
    allowed: float

    @classmethod
    @torch.inference_mode()
    def of(cls, exportable: Exportable) -> _Logits:
        """Return the logits of random images."""
        exact = deepcopy(exportable.module).double()
        generator = torch.Generator().manual_seed(0)
        batches = tuple(
            torch.randn(count, *exportable.images.shape, generator=generator)
            for count in _CHECKED_BATCHES
        )
        expected = tuple(exportable.module(images) for images in batches)
        rounding = max(
            _distance(logits, exact(images.double()))
            for logits, images in zip(expected, batches, strict=True)
        )
        return cls(batches, expected, max(TOLERANCE, _ROUNDINGS * rounding))

    @classmethod
    @torch.inference_mode()
    def of_int8(cls, exportable: Exportable) -> _Logits:
        """Return the logits of the network rounded to int8, for calibration images."""
        network = exportable.required_int8()
        images, simulated = network.examples, network.simulate(network.examples)
        own = _distance(simulated, exportable.module(images))
        return cls((images,), (simulated,), max(INT8_TOLERANCE, _INT8_ROUNDINGS * own))

    @torch.inference_mode()
    def error(self, run: Runner) -> float:
        """Return the largest relative error of the logits over the batches."""
        return max(
            _distance(run(images), logits)
            for images, logits in zip(self.batches, self.expected, strict=True)
        )


_LOGITS = {False: _Logits.of, True: _Logits.of_int8}
"""By whether a format is of int8."""


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
