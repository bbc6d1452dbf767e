"""Images as tensors: one split of a data set, its batches and their augmentation.

Everything works on whole batches of bytes; no Python runs per image.
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

    `images` is uint8 of shape (N, C, H, W) with C 1 (grey) or 3, mapped from a file that all
    processes share; `labels` is int64 of shape (N,). `mean` and `std` describe the training images
    on the scale [0, 1], one number per channel (or one for all, where those are grey). `taught` are
    a teacher's logits of shape (N, views, num_classes): of the image as it is, and mirrored where
    there are two views; None without a teacher.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    taught: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


class Batch(NamedTuple):
    """A part of a split, ready for training.

    `images` is float32 (B, 3, H, W), normalised, in channels_last; `labels` is int64 (B,);
    `taught` is the teacher's float32 logits (B, num_classes), None without a teacher.
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
    """One pass over a split in normalised batches.

    With a generator the order is shuffled and the images are augmented; without one they come in
    order and as they are, whatever the other arguments say.

    Args:
        flip: mirror half of the images left to right.
        shift: move each image by up to this fraction of its side in both directions; what moves in
            is the reflection of the border.
        cutout: side of a square hole, as a fraction of the side; its centre lies anywhere in the
            image, so that it may reach over the border (DeVries and Taylor, 2017, section 3.1).

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
        x = normalize_batch(split.images, chosen, places, scale, offset, device)
        if generator is not None and cutout > 0:
            x = x.masked_fill_(_holes(x, cutout, generator), 0.0)
        yield Batch(x, split.labels[chosen].to(device), _taught(split, chosen, mirrored, device))


def _taught(
    split: Split, chosen: Tensor, mirrored: Tensor | None, device: torch.device
) -> Tensor | None:
    """The teacher's logits of the views of the images that a batch shows."""
    if split.taught is None:
        return None
    if mirrored is None or split.taught.shape[1] == 1:
        return split.taught[chosen, 0].float().to(device)
    return split.taught[chosen, mirrored[:, 0].long()].float().to(device)


def _shifted_places(
    count: int, sides: torch.Size, shift: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows (count, H) and columns (count, W) of the image that its pixels come from.

    Every image is shifted by its own offset.
    """
    height, width = sides
    rows = _shifted(count, height, shift, generator)
    return rows, _shifted(count, width, shift, generator)


def _mirrored(columns: Tensor, mirrored: Tensor) -> Tensor:
    """Columns (count, W), from right to left where `mirrored` (count, 1)."""
    return torch.where(mirrored, columns.shape[1] - 1 - columns, columns)


def _shifted(count: int, side: int, shift: float, generator: torch.Generator) -> Tensor:
    """Source position (count, side) of every position along one side, reflected at the borders."""
    reach = min(round(shift * side), side - 1)
    offsets = torch.randint(-reach, reach + 1, (count, 1), generator=generator)
    positions = (torch.arange(side) + offsets).abs()
    return torch.minimum(positions, 2 * (side - 1) - positions)


def _holes(x: Tensor, cutout: float, generator: torch.Generator) -> Tensor:
    """Mask (B, 1, H, W) of one square hole per image."""
    count, _, height, width = x.shape
    hole = round(cutout * height)
    inside = []
    for side in (height, width):
        first = torch.randint(0, side, (count, 1), generator=generator) - hole // 2
        distance = torch.arange(side) - first
        inside.append((distance >= 0) & (distance < hole))
    down, across = inside
    return (down[:, None, :, None] & across[:, None, None, :]).to(x.device)
