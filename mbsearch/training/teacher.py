"""The teacher: a donor fine-tuned on the study's images, whose logits networks learn from.

The logits are computed once for each image and view (original and mirrored), in float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbsearch.config.preparation_settings import Teacher
from mbsearch.data.batches import Batch, Split, batches
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import ImageFormat
from mbsearch.space.size import Size
from mbsearch.training.devices import mixed_precision
from mbsearch.training.donors.files import TrainedDonor
from mbsearch.training.donors.inheritance import inherit_from
from mbsearch.training.folding import fold_norms
from mbsearch.training.loop import EVALUATION_BATCH, evaluate, place
from mbsearch.training.network import build, skeleton
from mbsearch.training.resumable_training import (
    Drawn,
    PreparatoryTraining,
    read_tensors,
    write_tensors,
)
from mbsearch.training.supernet.shared_weights import Shared

TaughtSplit = Literal["train", "validation"]

_SMOOTHING = 0.1
_STATISTICS_STEPS = 50  # running statistics forget within some thirty


@dataclass(frozen=True, slots=True)
class TeacherLogits:
    """A teacher's logits for training and validation images, and its validation accuracy.

    Logits are float16 of shape (N, views, num_classes), in the order of the split.
    """

    logits: Mapping[TaughtSplit, Tensor]
    accuracy: float

    def attached(self, split: Split, kind: TaughtSplit, positions: Tensor | None = None) -> Split:
        """Return a split with the teacher's logits attached.

        The `positions` are those of its images among all images of its kind; None if it has them
        all.
        """
        logits = self.logits[kind]
        return replace(split, taught=logits if positions is None else logits[positions])

    def on_all(self, split: Split) -> Split:
        """Return the joint training and validation split with these logits attached."""
        both = torch.cat([self.logits["train"], self.logits["validation"]])
        return replace(split, taught=both)

    @property
    def bytes(self) -> int:
        """Size of the logits in bytes."""
        return sum(each.nbytes for each in self.logits.values())


@dataclass
class TeacherTraining(PreparatoryTraining):
    """Fine-tune the donor's network on training images, at the teacher's resolution."""

    donor: TrainedDonor

    noun: ClassVar[str] = "teacher"

    @property
    def settings(self) -> Teacher:
        """The recipe of this training."""
        return self.space.settings.teacher

    @property
    def _images(self) -> ImageFormat:
        return self._architecture.input.at(Size.square(self.settings.pixels))

    @cached_property
    def _skeleton(self) -> nn.Module:
        return skeleton(self._architecture)

    @cached_property
    def _architecture(self) -> Architecture:
        return self.donor.architecture.replace(num_classes=self.source.num_classes)

    def _start(self) -> Shared:
        network = build(self._architecture, seed=self.seed)
        inherit_from(self._architecture, network, self.donor)
        return {name: value.detach() for name, value in network.named_parameters()}

    def _draw(self) -> Drawn:
        return Drawn(self._skeleton, self.weights, self._images)

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(logits, batch.labels, label_smoothing=_SMOOTHING)

    def _made_by(self) -> dict[str, Any]:
        """Return everything that the teacher's weights depend on.

        The temperature and weight of the distillation do not change them.
        """
        proxy = self.space.settings.proxy
        return {
            "donor": self.donor.key,
            "teacher": self.settings.model_dump(mode="json", exclude={"temperature", "weight"}),
            "augmentation": [proxy.flip, proxy.shift, proxy.cutout],
            "data": self.source.study_key,
            "seed": self.seed,
        }

    def network(self) -> nn.Module:
        """Return the trained teacher, with running statistics computed on training images."""
        network = place(build(self._architecture), self.device)
        network.load_state_dict(dict(self.weights), strict=False)
        with torch.no_grad():
            network.train()
            for _ in range(_STATISTICS_STEPS):
                network(self._batch(self._images).images)
        network.eval()
        return network

    def compute_logits(self) -> TeacherLogits:
        """Compute the teacher's logits for training and validation images."""
        network, views = self.network(), 2 if self.source.flippable else 1
        splits = {kind: self.source.split(kind, self._images) for kind in _KINDS}
        _, accuracy = evaluate(network, splits["validation"], self.device)
        return TeacherLogits(
            {kind: _logits(network, split, views, self.device) for kind, split in splits.items()},
            accuracy,
        )


_KINDS: tuple[TaughtSplit, ...] = ("train", "validation")


@torch.inference_mode()
def _logits(network: nn.Module, split: Split, views: int, device: torch.device) -> Tensor:
    """Return logits (N, views, num_classes) for a split's images, original and mirrored."""
    folded, found = fold_norms(network), []
    for images, *_ in batches(split, EVALUATION_BATCH, device=device):
        with mixed_precision(device):
            each = [folded(view) for view in (images, images.flip(3))[:views]]
        found.append(torch.stack(each, 1).half().cpu())
    return torch.cat(found).clone()


def write_logits(teacher_logits: TeacherLogits, path: Path) -> None:
    """Write a teacher's logits and validation accuracy.

    Raises:
        StorageError: the file cannot be written.
    """
    state = {"logits": dict(teacher_logits.logits), "accuracy": teacher_logits.accuracy}
    write_tensors(path, state, TeacherTraining.noun)


def read_logits(path: Path) -> TeacherLogits:
    """Read a teacher's logits and validation accuracy, as written by `write_logits`.

    Raises:
        StorageError: the file is missing or damaged.
    """
    return TeacherLogits(**read_tensors(path, TeacherTraining.noun))
