"""Compile the kernels of a training before its workers need them."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numba
import torch
from filelock import FileLock
from llvmlite.binding import get_host_cpu_name

from mbsearch.accel.kernels import steps
from mbsearch.data.batches import Split, batches
from mbsearch.space.library import load_reference
from mbsearch.training.devices import mixed_precision, multiplies_bfloat16
from mbsearch.training.network import build

_LOGGER = logging.getLogger(__name__)


def compile_kernels(device: torch.device) -> None:
    """Compile what the training of a MobileNet on this CPU will call, once for all later processes.

    Without this every worker would compile them by itself.
    """
    if device.type != "cpu":
        return
    folder = steps.normalise.stats.cache_path  # type: ignore[attr-defined]
    if folder is None:
        _LOGGER.warning(
            "compiled kernels of the training cannot be kept, for no cache folder can be written "
            "(NUMBA_CACHE_DIR names one): every worker compiles them for half a minute"
        )
        return
    compiled = Path(folder) / f"compiled-{_key(device)}"
    if compiled.exists():
        return
    _LOGGER.info("compiling the kernels of the training, once: up to half a minute")
    # Another run may be at it. A full disk has no room for the lock: then every worker compiles.
    with suppress(OSError), FileLock(f"{compiled}.lock"):
        if not compiled.exists():
            _train_a_step(device)
            compiled.touch()


def _train_a_step(device: torch.device) -> None:
    network = build(load_reference("mobilenet_v2").replace(alpha=0.1), num_classes=2).train()
    pictures = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    split = Split(pictures, torch.zeros(2, dtype=torch.int64), (0.5,), (0.5,), 2)
    images = next(batches(split, 2)).images
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has
    try:
        with mixed_precision(device):
            loss = network.to(memory_format=torch.channels_last)(images).sum()
        loss.backward()
    finally:
        torch.set_num_threads(threads)


def _key(device: torch.device) -> str:
    """What the machine code depends on: the kernels, their compiler, processor and precision."""
    precision = "bfloat16" if multiplies_bfloat16(device) else "float32"
    key = blake2b(digest_size=8)
    for file in sorted(Path(steps.__file__).parent.glob("*.py")):
        key.update(file.read_bytes())
    parts = (numba.__version__, sys.version_info[:2], get_host_cpu_name(), precision)
    key.update(repr(parts).encode())
    return key.hexdigest()
