"""Initial weights from a donor or supernet, and recipes adapted to them.

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
from mbsearch.training.donors.inheritance import copy_given, donated, inherited_share
from mbsearch.training.supernet.shared_weights import inherit
from mbsearch.training.supernet.supernet_training import load_shared
from mbsearch.training.teacher import Lessons, TaughtSplit, read_lessons

LEAST_SHARE = 0.5
"""Least share of inherited weights; below it a network starts from fresh weights."""
_SCREENING_RATE = 4
"""Factor on a short training's learning rate for weights not trained in a supernet."""
_SLICE_RATE = 2
"""Factor on a long training's learning rate for slices (docs/experiments/inheritance.md)."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A donor, and the files of its supernet and of its teacher's logits."""

    donor: Donor
    supernet: Path | None = None
    lessons: Path | None = None

    @torch.no_grad()
    def begin(self, network: nn.Module, architecture: Architecture, origin: str) -> Start:
        """Copy the initial weights into a fresh network, and return where they come from.

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
        copy_given(network, given)
        if origin == self.donor.family:
            return Start(StartKind.DONOR, share)
        if self.supernet is None:
            return Start(StartKind.INHERITED, share)
        inherit(architecture, network, shared_weights(self.supernet), centred=True)
        return Start(StartKind.SUPERNET, share)

    def taught(
        self, split: Split, source: ImageSource, kind: TaughtSplit, limit: int | None
    ) -> Split:
        """Return a part of a split with the teacher's logits, if there is a teacher.

        Raises:
            StorageError: the teacher's file is missing or damaged.
        """
        if self.lessons is None:
            return split
        return _lessons(self.lessons).attached(split, kind, source.positions(kind, limit))

    def taught_on_all(self, split: Split) -> Split:
        """Return the split of training and validation images with the teacher's logits."""
        return split if self.lessons is None else _lessons(self.lessons).on_all(split)


def screening_recipe(proxy: Proxy, start: Start) -> Proxy:
    """Return the proxy's recipe adapted to the origin of the weights."""
    match start.kind:
        case StartKind.FRESH:
            return proxy.from_scratch()
        case StartKind.SUPERNET:
            return proxy
        case StartKind.DONOR | StartKind.INHERITED:
            rate = _SCREENING_RATE * proxy.learning_rate
            return proxy.model_copy(update={"learning_rate": rate})


def long_recipe(recipe: Retrain, start: Start, architecture: Architecture) -> Retrain:
    """Return the recipe of finals and retraining adapted to the origin of the weights."""
    if start.kind is StartKind.FRESH:
        return recipe
    factor = _SLICE_RATE if architecture.alpha < 1 else 1
    return recipe.model_copy(update={"learning_rate": factor * recipe.tuning_rate})


@lru_cache(maxsize=1)
def trained_donor(donor: Donor) -> TrainedDonor:
    """Return a donor in memory; a process reads it once.

    Raises:
        DataError: the file cannot be read, or does not fit.
    """
    return load_donor(donor)


@lru_cache(maxsize=1)
def shared_weights(path: Path) -> dict[str, Tensor]:
    """Return the weights of a supernet; a process reads them once.

    Raises:
        StorageError: the file is missing or damaged.
    """
    return load_shared(path)


@lru_cache(maxsize=1)
def _lessons(path: Path) -> Lessons:
    return read_lessons(path)
