"""Train a supernet: each step trains one random network on one batch.

Networks (paths) are sampled uniformly (arXiv 1904.00420, section 3.2). With a donor the shared
weights are initialized from it, with channels sorted by importance, and paths are within the
budgets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from mbsearch.config.preparation_settings import Supernet
from mbsearch.config.specification import baseline_architectures
from mbsearch.cost import measure
from mbsearch.data.batches import Batch, Split
from mbsearch.errors import SpecError
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import ImageFormat
from mbsearch.training.donors.files import TrainedDonor
from mbsearch.training.donors.inheritance import donated
from mbsearch.training.loop import distillation
from mbsearch.training.network import last_norms, skeleton
from mbsearch.training.resumable_training import Drawn, PreparatoryTraining, read_tensors
from mbsearch.training.supernet.shared_weights import (
    Shared,
    WeightShapes,
    fresh_weights,
    is_whole,
    part,
    slices,
    thinner,
)
from mbsearch.training.teacher import TeacherLogits

_SHAPES_FROM = 300  # candidates; each choice of a space occurs dozens of times
_LEAST_USED = 0.25  # share of a budget that a path uses, with a donor
_DRAWS = 500  # attempts to draw a path within a budget


@dataclass
class SupernetTraining(PreparatoryTraining):
    """Training of the weights that a space's candidates and baselines share.

    The initial weights come from `donor`. The teacher's logits of the training images are in
    `teacher_logits`.
    """

    donor: TrainedDonor | None = None
    teacher_logits: TeacherLogits | None = None

    noun: ClassVar[str] = "supernet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._baselines = [network for _, network in baseline_architectures(self.space)]

    @property
    def settings(self) -> Supernet:
        """The recipe of this training."""
        return self.space.settings.proxy.supernet

    def _start(self) -> Shared:
        """Return the donor's weights, or without a donor random weights.

        Their shapes come from sampled candidates.
        """
        rng = Random(f"{self.seed}/shapes")
        drawn = (self.space.decode(self.space.sample_params(rng)) for _ in range(_SHAPES_FROM))
        networks = (self._trained(each) for each in (*self._baselines, *drawn))
        if self.donor is None:
            return fresh_weights(networks, self.seed)
        return _donated_weights(networks, self.seed, self.donor)

    def _trained(self, candidate: Architecture) -> Architecture:
        proxy = self.space.settings.proxy
        return thinner(candidate, proxy).replace(num_classes=self.source.num_classes)

    def _draw(self) -> Drawn:
        """Draw a random candidate whose parameters all lie within the shared weights."""
        while True:
            candidate = self._candidate()
            trained = self._trained(candidate)
            network = skeleton(trained)
            centred = self.donor is not None
            views = slices(trained, network, self.weights, centred=centred)
            if is_whole(network, views):
                scale = self.space.settings.proxy.resolution_scale
                return Drawn(network, views, candidate.image_format.scaled(scale))

    def _candidate(self) -> Architecture:
        if self._baselines and self._rng.random() < self.settings.baselines:
            return self._rng.choice(self._baselines)
        budgets = self.space.settings.exact.budgets
        if self.donor is None or not budgets:
            return self.space.decode(self.space.sample_params(self._rng))
        budget = self._rng.choice(budgets)
        for draw in count(1):
            candidate = self.space.decode(self.space.sample_params(self._rng))
            try:
                share = budget.used_share(measure(candidate))
            except SpecError:  # its strides leave no pixels
                continue
            if _LEAST_USED <= share <= 1 or draw >= _DRAWS:
                break
        return candidate

    def _split(self, images: ImageFormat) -> Split:
        split = super()._split(images)
        return (
            split if self.teacher_logits is None else self.teacher_logits.attached(split, "train")
        )

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        loss = F.cross_entropy(logits, batch.labels)
        return distillation(loss, logits, batch.taught, self.space.settings.teacher)

    def _made_by(self) -> dict[str, Any]:
        """Return everything that the shared weights depend on.

        The recipe of trials does not change them.
        """
        proxy = self.space.settings.proxy
        made_by = {
            "space": self.space.fingerprint,
            "baselines": [network.fingerprint for _, network in baseline_architectures(self.space)],
            "supernet": proxy.supernet.model_dump(mode="json"),
            "scales": [proxy.width_scale, proxy.resolution_scale],
            "augmentation": [proxy.flip, proxy.shift, proxy.cutout],
            "data": self.source.study_key,
            "seed": self.seed,
        }
        if self.donor is not None:
            made_by["donor"] = self.donor.key
        if self.teacher_logits is not None:
            made_by["teacher"] = self.space.settings.teacher.model_dump(mode="json")
        return made_by


@torch.no_grad()
def _donated_weights(
    networks: Iterable[Architecture], seed: int, donor: TrainedDonor
) -> dict[str, Tensor]:
    """Return shared weights from a donor, random where the donor has no counterpart.

    Kernels are centred. A residual block that the donor lacks starts as the identity, unless it
    shares weights with one that the donor has.
    """
    shapes, last_scales = WeightShapes(centred=True), set[str]()
    # Of equal parts of a weight the last one counts, in the order of the networks.
    parts: dict[tuple[str, torch.Size], Tensor] = {}
    for architecture in networks:
        network = skeleton(architecture)
        names = shapes.add(architecture, network)
        given = donated(architecture, network, donor)
        last_scales |= {names[f"{name}.weight"] for name in last_norms(network)}
        for name, key in names.items():
            if name in given:
                parts.pop((key, given[name].shape), None)
                parts[key, given[name].shape] = given[name]
    weights = shapes.draw(seed)
    for (key, shape), values in parts.items():
        part(weights[key], shape).copy_(values)
    for key in last_scales - {key for key, _ in parts}:
        weights[key].zero_()
    return weights


def load_shared(path: Path) -> dict[str, Tensor]:
    """Return the shared weights of a trained supernet, as a dictionary from name to tensor.

    Raises:
        StorageError: the file is missing or damaged.
    """
    weights: dict[str, Tensor] = read_tensors(path, SupernetTraining.noun)["weights"]
    return weights
