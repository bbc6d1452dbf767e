"""Compile the training kernels before workers start."""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numba
import torch
from filelock import FileLock
from llvmlite.binding import get_host_cpu_name
from torch import nn

from mbsearch.accel import normalize_batch
from mbsearch.accel.fusion import fuse
from mbsearch.accel.kernels import steps
from mbsearch.accel.kernels.jit import sources_hash

_CPU = torch.device("cpu")
_LOGGER = logging.getLogger(__name__)


def compile_kernels(*, bfloat16: bool) -> None:
    """Compile the kernels for training a MobileNet on this CPU, unless they are cached.

    Args:
        bfloat16: whether trainings compute in bfloat16.
    """
    folder = cache_folder()
    if folder is None:
        _LOGGER.warning(
            "compiled kernels cannot be cached, because no cache folder is writable (set "
            "NUMBA_CACHE_DIR to one): every worker compiles them for half a minute"
        )
        return
    compiled = folder / f"compiled-{_key(bfloat16)}"
    if compiled.exists():
        return
    _LOGGER.info("compiling the training kernels, once per machine: up to half a minute")
    # Another run may be compiling. Without the lock (a full disk, no file locks) every worker does.
    with suppress(OSError), FileLock(f"{compiled}.lock", fallback_to_soft=False):
        if not compiled.exists():
            train_a_step(bfloat16)
            compiled.touch()


def cache_folder() -> Path | None:
    """Return Numba's cache folder for compiled kernels; None if it is not writable."""
    path = steps.normalize.stats.cache_path  # type: ignore[attr-defined]
    return None if path is None else Path(path)


def train_a_step(bfloat16: bool) -> None:
    """Compute loss and gradients of a small network that has all layers with kernels."""
    network = _small_network().train().to(memory_format=torch.channels_last)
    fuse(network)
    one = torch.ones(1)
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    batch = normalize_batch(images, torch.arange(2), None, one, one, _CPU)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = network(batch).sum()
        loss.backward()
    finally:
        torch.set_num_threads(threads)


def _small_network() -> nn.Module:
    """Return a stem and two linear bottlenecks; the last maps are smaller than a kernel."""
    return nn.Sequential(
        _convolution(3, 8, kernel=3, stride=2),
        _convolution(8, 16),
        _convolution(16, 16, kernel=3, groups=16),
        _convolution(16, 8, activation=nn.Identity()),
        _convolution(8, 16),
        _convolution(16, 16, kernel=3, stride=2, groups=16),
        _convolution(16, 16, kernel=3, stride=2, groups=16),
        _convolution(16, 8, activation=nn.Identity()),
    )


def _convolution(
    c_in: int,
    c_out: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = OrderedDict(conv=conv, norm=nn.BatchNorm2d(c_out), activation=activation or nn.ReLU6())
    return nn.Sequential(layers)


def _key(bfloat16: bool) -> str:
    """Return a hash of what the machine code depends on: sources, compiler, CPU, precision."""
    precision = "bfloat16" if bfloat16 else "float32"
    parts = (numba.__version__, sys.version_info[:2], get_host_cpu_name(), precision)
    key = blake2b(repr(parts).encode(), digest_size=8)
    key.update(sources_hash().encode())
    return key.hexdigest()
