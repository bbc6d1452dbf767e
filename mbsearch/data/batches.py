"""Splits of a data set as tensors, and their augmented batches.

Operations are on whole batches of bytes; no Python code runs per image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mbsearch.accel import normalize_batch


@dataclass(frozen=True, slots=True)
class Split:
    """Images and labels of one split at one resolution.

    Attributes:
        images: uint8 (N, C, H, W) with C 1 (grey) or 3, mapped from a file that processes share.
        channels: of the batches, to which grey images are repeated.
        labels: int64 (N,).
        mean: of the training images on the scale [0, 1], per channel; one value if they are grey.
        std: as `mean`.
        num_classes: number of classes.
        taught: a teacher's logits (N, views, num_classes); the second view is the mirrored image.
            None without a teacher.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    taught: Tensor | None = None
    channels: int = 3

    def __len__(self) -> int:
        return len(self.labels)


class Batch(NamedTuple):
    """Images, labels and teacher's logits of one batch.

    `images` is float32 (B, C, H, W), normalized, channels_last. `labels` is int64 (B,). `taught` is
    the teacher's logits, float32 (B, num_classes), or None.
    """

    images: Tensor
    labels: Tensor
    taught: Tensor | None = None


def batches(
    split: Split,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    flip: bool = False,
    shift: float = 0.0,
    cutout: float = 0.0,
    device: torch.device | str = "cpu",
    drop_last: bool = False,
) -> Iterator[Batch]:
    """Yield normalized batches that cover a split once.

    With a generator the order is shuffled and the images are augmented. Without one the images come
    in order and are not augmented, and the options of augmentation are ignored.

    Args:
        flip: mirror each image horizontally with probability 0.5.
        shift: shift each image by up to this fraction of its side in both directions, with
            reflection at the border.
        cutout: side of a square hole as a fraction of the image's side. Its centre is anywhere in
            the image, so it may be cut off by the border (DeVries and Taylor, 2017, section 3.1).

    Yields:
        batches on `device`.
    """
    scale = 1 / (255 * torch.tensor(split.std))
    offset = -255 * scale * torch.tensor(split.mean)
    order = torch.arange(len(split))
    if generator is not None:
        order = torch.randperm(len(split), generator=generator)
    end = len(split) - len(split) % batch_size if drop_last else len(split)
    device = torch.device(device)
    for start in range(0, end, batch_size):
        chosen = order[start : start + batch_size]
        places = mirrored = None
        if generator is not None and (flip or shift > 0):
            places = _shifted_places(len(chosen), split.images.shape[2:], shift, generator)
            if flip:
                mirrored = torch.rand(len(chosen), 1, generator=generator) < 0.5
                places = places[0], _mirrored(places[1], mirrored)
        x = normalize_batch(split.images, chosen, places, scale, offset, device, split.channels)
        if generator is not None and cutout > 0:
            x = x.masked_fill_(_holes(x, cutout, generator), 0.0)
        yield Batch(x, split.labels[chosen].to(device), _taught(split, chosen, mirrored, device))


def _taught(
    split: Split, chosen: Tensor, mirrored: Tensor | None, device: torch.device
) -> Tensor | None:
    """Return the teacher's logits for a batch, for the mirrored image where `mirrored` is true."""
    if split.taught is None:
        return None
    if mirrored is None or split.taught.shape[1] == 1:
        return split.taught[chosen, 0].float().to(device)
    return split.taught[chosen, mirrored[:, 0].long()].float().to(device)


def _shifted_places(
    count: int, sides: torch.Size, shift: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return source rows (count, H) and columns (count, W) for randomly shifted images."""
    height, width = sides
    rows = _shifted(count, height, shift, generator)
    return rows, _shifted(count, width, shift, generator)


def _mirrored(columns: Tensor, mirrored: Tensor) -> Tensor:
    """Return source columns (count, W), reversed where `mirrored` (count, 1)."""
    return torch.where(mirrored, columns.shape[1] - 1 - columns, columns)


def _shifted(count: int, side: int, shift: float, generator: torch.Generator) -> Tensor:
    """Return source positions (count, side) along one side, reflected at the borders."""
    reach = min(round(shift * side), side - 1)
    offsets = torch.randint(-reach, reach + 1, (count, 1), generator=generator)
    positions = (torch.arange(side) + offsets).abs()
    return torch.minimum(positions, 2 * (side - 1) - positions)


def _holes(x: Tensor, cutout: float, generator: torch.Generator) -> Tensor:
    """Return a mask (B, 1, H, W) with one square hole per image."""
    count, _, height, width = x.shape
    hole = round(cutout * height)
    inside = []
    for side in (height, width):
        first = torch.randint(0, side, (count, 1), generator=generator) - hole // 2
        distance = torch.arange(side) - first
        inside.append((distance >= 0) & (distance < hole))
    down, across = inside
    return (down[:, None, :, None] & across[:, None, None, :]).to(x.device)
