"""Devices that networks are trained on: choice, precision, threads and memory."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from llvmlite.binding import get_host_cpu_name
from threadpoolctl import threadpool_limits

from mbsearch.errors import EvaluationError
from mbsearch.execution.capacity import usable_cores, usable_memory

# What workers import.
_IMPORTS = (
    "mbsearch.training.long_training",
    "mbsearch.training.proxy",
    "mbsearch.accel.preload",
)

_JOBS_OF_A_GPU = (
    4  # enough to keep it busy (docs/throughput.md); each needs over a GiB of its memory
)
_BYTES_OF_A_WORKER = 1 << 30  # 0.3 GiB at 56 pixels, up to 1 GiB in finals at 224; so the driver
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def choose_device(name: str | None = None) -> torch.device:
    """Return the named device, or by default CUDA, Apple's MPS or the CPU, if available.

    Raises:
        EvaluationError: this machine has no such device.
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
    """Return the devices that share one long training: all GPUs, or the named device.

    Raises:
        EvaluationError: this machine has no such device.
    """
    if name is None and torch.cuda.device_count() > 1:
        return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return (choose_device(name),)


def default_jobs(device: torch.device) -> int:
    """Return the default number of worker processes: one per core, or at most four on a GPU.

    Fewer run where memory, less a share for the driver, does not suffice.
    """
    most = usable_cores() if device.type == "cpu" else min(usable_cores(), _JOBS_OF_A_GPU)
    fitting = usable_memory() // _BYTES_OF_A_WORKER - 1
    return int(max(1, min(most, fitting)))


def worker_imports(device: torch.device) -> tuple[str, ...]:
    """Return the names of the modules to import before forking workers for a device.

    There are none for a GPU: a process forked after CUDA was initialized cannot use it.
    """
    return _IMPORTS if device.type == "cpu" else ()


def device_name(device: torch.device) -> str:
    """Return a device's description for the record of a trial."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    return f"{device.type} ({processor}{', bfloat16' if multiplies_bfloat16(device) else ''})"


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context that autocasts to bfloat16 where that is faster, else a null context.

    Weights stay float32. As bfloat16 has float32's range, the loss needs no scaling.
    """
    if multiplies_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device computes products faster in bfloat16 than in float32.

    Other processors compute them too, but no faster: Intel's without AMX have half as many units
    for them (docs/throughput.md), NVIDIA's before Ampere emulate them.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and _processor().startswith("znver")


@cache
def _processor() -> str:
    """Return LLVM's name of the processor."""
    name: str = get_host_cpu_name()
    return name


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set the number of threads of torch's operators while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_worker() -> None:
    """Configure this process as a worker: use one thread, and keep freed memory.

    Two workers with two threads each slow each other down tenfold on two cores. By default glibc
    returns large blocks to the system, and page faults then take a fifth of each training step
    (docs/throughput.md). With this setting a worker's memory stays at its peak.
    """
    torch.set_num_threads(1)
    threadpool_limits(1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
