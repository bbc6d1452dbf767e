"""The machine that a network is trained on: its device, its threads and its memory."""

from __future__ import annotations

import ctypes
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from llvmlite.binding import get_host_cpu_name
from threadpoolctl import threadpool_limits

from mbsearch.errors import EvaluationError
from mbsearch.execution.local import usable_cores

# What workers import; torch's optimizers import the last.
_IMPORTS = (
    "mbsearch.training.long_training",
    "mbsearch.training.proxy",
    "mbsearch.accel.fusion",
    "mbsearch.accel.kernels.images",
    "torch._dynamo",
)

_JOBS_OF_A_GPU = 4  # where it is busy (docs/throughput.md); each takes over a GiB of it
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def choose_device(name: str | None = None) -> torch.device:
    """The device to train on: the one named, else CUDA, else Apple's MPS, else the CPU.

    Raises:
        EvaluationError: this machine has no device of that name.
    """
    if name is not None:
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError):  # the latter where torch was built without CUDA
            raise EvaluationError(
                f"device: expected cpu, or cuda, cuda:N or mps where there is one, got {name!r}"
            ) from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def training_devices(name: str | None = None) -> tuple[torch.device, ...]:
    """The devices that share one long training: every GPU there is, unless one device is named.

    Raises:
        EvaluationError: this machine has no device of that name.
    """
    if name is None and torch.cuda.device_count() > 1:
        return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return (choose_device(name),)


def default_jobs(device: torch.device) -> int:
    """Worker processes that a device feeds: one a core, and on a GPU a few that share it."""
    return usable_cores() if device.type == "cpu" else min(usable_cores(), _JOBS_OF_A_GPU)


def worker_imports(device: torch.device) -> tuple[str, ...]:
    """Modules that workers of a device may have imported for them, and be forked then.

    For a GPU none: a fork of a process that has looked for it cannot use it.
    """
    return _IMPORTS if device.type == "cpu" else ()


def device_name(device: torch.device) -> str:
    """The device in words, for the record of a trial."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    return f"{device.type} ({processor}{', bfloat16' if multiplies_bfloat16(device) else ''})"


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Compute in bfloat16 what bears it, where the device is made for that; weights stay float32.

    bfloat16 has float32's range, so a training needs no scaling of its loss.
    """
    if multiplies_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device is made for products in bfloat16.

    Other processors compute them too, but no faster than in float32: Intel's without AMX have half
    as many units for them (docs/throughput.md), and NVIDIA's before Ampere only emulate them.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and _processor().startswith("znver")


@cache
def _processor() -> str:
    """The processor as LLVM calls it."""
    name: str = get_host_cpu_name()
    return name


def prepare_worker() -> None:
    """Make this process a worker: one thread, and memory that is kept for the next step.

    Two workers of two threads each slow each other down tenfold on two cores. By default glibc
    gives every large map back to the system, and each training step pays page faults to have it
    again: a fifth of its time (docs/throughput.md). A worker's size stays at its peak instead.
    """
    torch.set_num_threads(1)
    threadpool_limits(1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
