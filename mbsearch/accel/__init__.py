"""Acceleration of training: fused layers, compiled CPU kernels and CUDA graphs.

The rest of mbsearch imports this module only. README.md explains what is behind it.
The environment variable ``MBSEARCH_ACCEL=0`` turns all of it off. The kernels' modules are imported
on first use: Numba takes a second to import, and `accel.kernels` changes its configuration.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mbsearch.accel.cuda_graph import RecordedStep, Step
from mbsearch.accel.optimizers import SGD, AdamW
from mbsearch.config.recipe import Recipe

_VARIABLE = "MBSEARCH_ACCEL"


def is_enabled() -> bool:
    """Return whether acceleration is on (``MBSEARCH_ACCEL=0`` turns it off)."""
    return os.environ.get(_VARIABLE) != "0"


def accelerate(network: nn.Module, device: torch.device) -> nn.Module:
    """Install fused layers in a network, in place, and return it.

    Parameters, buffers and their names stay the same. Outputs are those of the plain network up to
    the order of summation. The call may be repeated.

    Args:
        network: plain torch modules, possibly on the meta device.
        device: device of the training; on others than a CPU and CUDA the network stays plain.
    """
    if is_enabled() and device.type in ("cpu", "cuda"):
        from mbsearch.accel.fusion import fuse

        fuse(network)
    return network


def optimizer(
    groups: Iterable[dict[str, Any]], recipe: Recipe, device: torch.device
) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe, with a state dictionary in torch's format."""
    rate: float | Tensor = recipe.learning_rate
    on_gpu = is_enabled() and device.type == "cuda"
    if on_gpu:  # a recorded step reads its learning rate from the device
        rate = torch.tensor(recipe.learning_rate, device=device)
    if recipe.optimizer == "sgd":
        sgd = SGD if is_enabled() else torch.optim.SGD
        return sgd(
            groups, lr=rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True
        )
    if is_enabled() and device.type == "cpu":
        return AdamW(groups, recipe.learning_rate)
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=on_gpu)


def step_runner(device: torch.device, *, constant: bool) -> Callable[..., Tensor]:
    """Return a function that runs a training step on a batch: ``run(step, *tensors)``.

    On a GPU the step is recorded once as a CUDA graph and then replayed.

    Args:
        device: where the step runs.
        constant: whether each step runs the same operations, all on the device, on tensors of the
            same shapes. Other steps are never recorded.
    """
    if is_enabled() and constant and device.type == "cuda":
        return RecordedStep(device)
    return _run


def _run(step: Step, *tensors: Tensor) -> Tensor:
    return step(*tensors)


def normalize_batch(
    images: Tensor,
    chosen: Tensor,
    pixels: tuple[Tensor, Tensor] | None,
    scale: Tensor,
    offset: Tensor,
    device: torch.device,
    channels: int = 3,
) -> Tensor:
    """Return the chosen images as a float32 batch (B, channels, H, W): ``image * scale + offset``.

    The memory format is channels last.

    Args:
        images: uint8 (N, C, H, W) with C 1 or 3, on the CPU.
        chosen: indices of the images, int64 (B,).
        pixels: rows (B, H) and columns (B, W) of the image that each pixel is read from; None for
            the image as it is.
        scale: a factor per channel, or one for all.
        offset: an offset per channel, or one for all.
        device: device of the returned batch.
        channels: of the batch; a single channel of the images is repeated.
    """
    if is_enabled() and device.type == "cpu":
        return _normalize_by_kernel(images, chosen, pixels, scale, offset, channels)
    return _normalize_by_torch(images, chosen, pixels, scale, offset, device, channels)


def _normalize_by_kernel(
    images: Tensor,
    chosen: Tensor,
    pixels: tuple[Tensor, Tensor] | None,
    scale: Tensor,
    offset: Tensor,
    channels: int,
) -> Tensor:
    """Compute `normalize_batch` with a compiled kernel, in one pass over memory."""
    from mbsearch.accel.kernels.images import normalize

    sides = images.shape[2:]
    x = torch.empty(len(chosen), *sides, channels)
    rows, columns = pixels or [torch.arange(side).repeat(len(chosen), 1) for side in sides]
    normalize(*(each.numpy() for each in (images, chosen, rows, columns, scale, offset, x)))
    return x.permute(0, 3, 1, 2)


def _normalize_by_torch(
    images: Tensor,
    chosen: Tensor,
    pixels: tuple[Tensor, Tensor] | None,
    scale: Tensor,
    offset: Tensor,
    device: torch.device,
    channels: int,
) -> Tensor:
    x = images[chosen].to(device)
    if pixels is not None:
        rows, columns = pixels
        count, depth, _, width = x.shape
        places = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1).to(device)
        x = x.flatten(2).gather(2, places.expand(-1, depth, -1)).view_as(x)
    scale, offset = scale.to(device).view(-1, 1, 1), offset.to(device).view(-1, 1, 1)
    x = torch.addcmul(offset, x.float(), scale)
    return x.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)


def compile_ahead(device: torch.device, *, bfloat16: bool) -> None:
    """Compile the training kernels and cache them for all later processes on this machine.

    Without this every worker compiles them itself.

    Args:
        device: device of the trainings; only a CPU needs kernels.
        bfloat16: whether trainings compute in bfloat16.
    """
    if is_enabled() and device.type == "cpu":
        from mbsearch.accel.precompilation import compile_kernels

        compile_kernels(bfloat16=bfloat16)


def kernel_cache_folder() -> Path | None:
    """Return the folder of compiled kernels; None if not writable or acceleration is off."""
    if not is_enabled():
        return None
    from mbsearch.accel.precompilation import cache_folder

    return cache_folder()
