"""Compile the kernels of a training before its workers need them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mbsearch.space.catalog import load_reference
from mbsearch.training.kernels import chain_depthwise, steps
from mbsearch.training.machine import mixed_precision
from mbsearch.training.network import build


def compile_kernels(device: torch.device, say: Callable[[str], None]) -> None:
    """Compile what a training on this CPU will call, once for all later processes.

    Without this every worker would do so by itself, silently. `say` is told a line before it.
    """
    if device.type != "cpu":
        return
    with mixed_precision(device):
        chained = not torch.is_autocast_enabled("cpu")
    # The one that takes longest stands for all.
    if _compiled_before(chain_depthwise.depthwise_back if chained else steps.normalise_back):
        return
    say("compiling the kernels of the training, once: up to half a minute")
    network = build(load_reference("mobilenet_v2").replace(alpha=0.1), num_classes=2).train()
    images = torch.zeros(2, 3, 32, 32).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has
    try:
        with mixed_precision(device):
            loss = network.to(memory_format=torch.channels_last)(images).sum()
        loss.backward()
    finally:
        torch.set_num_threads(threads)


def _compiled_before(kernel: Any) -> bool:
    folder = kernel.stats.cache_path  # none where no folder can be written
    return folder is None or any(Path(folder).glob(f"*{kernel.__name__}*.nbc"))
