"""Initial weights from a donor or supernet, and training recipes adapted to them.

Candidates, and references that correspond to the donor, inherit their part of the supernet, or of
the donor if there is no supernet. The donor's own family, at smaller widths or resolutions,
inherits from the donor directly, as one would without a search. A network that inherits less than
half of its weights starts from fresh weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.retrain_settings import Retrain
from mbsearch.data.batches import Split
from mbsearch.data.sources import ImageSource
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import Start, StartKind
from mbsearch.training.donors.files import Donor, TrainedDonor, load_donor
from mbsearch.training.donors.inheritance import copy_inherited, donated, inherited_share
from mbsearch.training.supernet.shared_weights import inherit
from mbsearch.training.supernet.supernet_training import load_shared
from mbsearch.training.teacher import TaughtSplit, TeacherLogits, read_logits

LEAST_SHARE = 0.5
"""Least share of inherited weights; below it a network starts from fresh weights."""
_SCREENING_RATE = 4
"""Factor on a short training's learning rate for weights not trained in a supernet."""
_SLICE_RATE = 2
"""Factor on a long training's learning rate for slices (docs/experiments/inheritance.md)."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A donor, and the files of the supernet and of the teacher's logits."""

    donor: Donor
    supernet: Path | None = None
    teacher_logits: Path | None = None

    @torch.no_grad()
    def begin(self, network: nn.Module, architecture: Architecture, origin: str) -> Start:
        """Copy initial weights into a new network, and return their kind and inherited share.

        Args:
            network: built from the architecture; changed in place.
            architecture: a candidate or a reference.
            origin: ``search``, or the family of a reference.

        Raises:
            DataError: the donor's file cannot be read.
            StorageError: the supernet's file is missing or damaged.
        """
        given = donated(architecture, network, trained_donor(self.donor))
        share = inherited_share(network, given)
        if share < LEAST_SHARE:
            return Start(StartKind.FRESH, 0.0)
        copy_inherited(network, given)
        if origin == self.donor.family:
            return Start(StartKind.DONOR, share)
        if self.supernet is None:
            return Start(StartKind.INHERITED, share)
        inherit(architecture, network, shared_weights(self.supernet), centred=True)
        return Start(StartKind.SUPERNET, share)

    def taught(
        self, split: Split, source: ImageSource, kind: TaughtSplit, limit: int | None
    ) -> Split:
        """Return a split with the teacher's logits attached, if there is a teacher.

        The `kind` and `limit` are those that the split was made with.

        Raises:
            StorageError: the teacher's file is missing or damaged.
        """
        if self.teacher_logits is None:
            return split
        logits = _cached_logits(self.teacher_logits)
        return logits.attached(split, kind, source.positions(kind, limit))

    def taught_on_all(self, split: Split) -> Split:
        """Return the joint training and validation split with the teacher's logits attached.

        Without a teacher the split is returned unchanged.
        """
        if self.teacher_logits is None:
            return split
        return _cached_logits(self.teacher_logits).on_all(split)


def screening_recipe(proxy: Proxy, start: Start) -> Proxy:
    """Return the proxy's recipe, adapted to the kind of the initial weights."""
    match start.kind:
        case StartKind.FRESH:
            return proxy.from_scratch()
        case StartKind.SUPERNET:
            return proxy
        case StartKind.DONOR | StartKind.INHERITED:
            rate = _SCREENING_RATE * proxy.learning_rate
            return proxy.model_copy(update={"learning_rate": rate})


def long_recipe(recipe: Retrain, start: Start, architecture: Architecture) -> Retrain:
    """Return the recipe for finals and retraining, adapted to the kind of the initial weights."""
    if start.kind is StartKind.FRESH:
        return recipe
    factor = _SLICE_RATE if architecture.alpha < 1 else 1
    return recipe.model_copy(update={"learning_rate": factor * recipe.tuning_rate})


@lru_cache(maxsize=1)
def trained_donor(donor: Donor) -> TrainedDonor:
    """Return a donor's network with its weights, read once per process.

    Raises:
        DataError: the file cannot be read, or does not fit.
    """
    return load_donor(donor)


@lru_cache(maxsize=1)
def shared_weights(path: Path) -> dict[str, Tensor]:
    """Return a supernet's weights by name, read once per process.

    Raises:
        StorageError: the file is missing or damaged.
    """
    return load_shared(path)


@lru_cache(maxsize=1)
def _cached_logits(path: Path) -> TeacherLogits:
    return read_logits(path)
