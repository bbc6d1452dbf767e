"""Resumable trainings before a search, saved to disk every hundred steps.

After an interruption the next run resumes from the saved state.
"""

from __future__ import annotations

import math
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mbsearch.config.preparation_settings import Preparation
from mbsearch.config.specification import SearchSpecification
from mbsearch.data.batches import Batch, Split, batches
from mbsearch.data.sources import ImageSource
from mbsearch.errors import EvaluationError, StorageError
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.atomic_files import replacing
from mbsearch.training.loop import decay_groups, forward_with, schedule
from mbsearch.training.supernet.shared_weights import Shared

_SAVE_EVERY = 100  # steps
_AVERAGED = 50  # steps


class Drawn(NamedTuple):
    """The network trained in one step: module, weights, and the format of its images."""

    network: nn.Module
    views: Mapping[str, Tensor]
    images: ImageFormat


@dataclass
class PreparatoryTraining(ABC):
    """Base class of trainings before a search; images are augmented as in the proxy."""

    space: SearchSpecification
    source: ImageSource
    seed: int
    device: torch.device
    losses: list[float] = field(default_factory=list, kw_only=True)
    seconds: float = field(default=0.0, kw_only=True)
    _splits: dict[ImageFormat, Split] = field(default_factory=dict, kw_only=True)

    noun: ClassVar[str]
    """What is trained, in messages."""

    def __post_init__(self) -> None:
        self._rng = Random(f"{self.seed}/paths")
        self._generator = torch.Generator().manual_seed(self.seed)

    @property
    @abstractmethod
    def settings(self) -> Preparation:
        """The recipe of this training."""

    @abstractmethod
    def _start(self) -> Shared:
        """Return the initial weights."""

    @abstractmethod
    def _draw(self) -> Drawn:
        """Return the network to train in the next step."""

    @abstractmethod
    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a step (nats)."""

    @abstractmethod
    def _made_by(self) -> dict[str, Any]:
        """Return everything that the weights depend on."""

    def _split(self, images: ImageFormat) -> Split:
        """Return all training images in a format."""
        return self.source.split("train", images)

    @cached_property
    def weights(self) -> dict[str, nn.Parameter]:
        """The current weights by name, at first the initial ones."""
        return self._parameters(self._start())

    @cached_property
    def _optimizer(self) -> torch.optim.Optimizer:
        groups = decay_groups(self.weights.values(), self.settings.weight_decay)
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, fused=True)

    def _parameters(self, weights: Shared) -> dict[str, nn.Parameter]:
        return {name: nn.Parameter(value.to(self.device)) for name, value in weights.items()}

    @property
    def done(self) -> bool:
        """Whether all steps of the recipe are completed."""
        return len(self.losses) >= self.settings.steps

    def step(self) -> None:
        """Train one network on one batch.

        Raises:
            EvaluationError: the loss is not finite.
        """
        started, settings = time.perf_counter(), self.settings
        network, views, images = self._draw()
        batch = self._batch(images)
        rate = settings.learning_rate * schedule(len(self.losses), settings.steps, settings.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = self._loss(forward_with(views, network, batch.images), batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise EvaluationError(
                f"the {self.noun} diverged in step {len(self.losses) + 1}: the loss is {value}; "
                f"expected a smaller learning_rate of the {self.noun}"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.losses.append(value)
        self.seconds += time.perf_counter() - started

    def loss(self) -> float:
        """Return the mean training loss (nats) over the last 50 steps."""
        last = self.losses[-_AVERAGED:]
        return sum(last) / len(last) if last else math.nan

    def _batch(self, images: ImageFormat) -> Batch:
        """Return random training images in a format, augmented as in the proxy."""
        if images not in self._splits:
            self._splits[images] = self._split(images)
        split, how = self._splits[images], self.space.settings.proxy
        size = min(self.settings.batch_size, len(split))
        rows = torch.randint(len(split), (size,), generator=self._generator)
        chosen = replace(
            split,
            images=split.images[rows],
            labels=split.labels[rows],
            taught=None if split.taught is None else split.taught[rows],
        )
        whole = batches(
            chosen,
            size,
            generator=self._generator,
            flip=self.source.flippable if how.flip is None else how.flip,
            shift=how.shift,
            cutout=how.cutout,
            device=self.device,
        )
        return next(whole)

    def save(self, path: Path) -> None:
        """Write the state of the training to a file, atomically.

        Raises:
            StorageError: it cannot be written.
        """
        state = {
            "made_by": self._made_by(),
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "rng": list(self._rng.getstate()[1]),
            "losses": self.losses,
            "seconds": self.seconds,
        }
        write_tensors(path, state, self.noun)

    def restore(self, path: Path) -> None:
        """Restore the state from a file that `save` wrote.

        Raises:
            StorageError: the file is damaged, or was made by other settings.
        """
        state = read_tensors(path, self.noun)
        if state["made_by"] != self._made_by():
            raise StorageError(
                f"{path}: expected the {self.noun} of this space, proxy, data and seed, got "
                "another one; delete it, or take another --name"
            )
        self.weights = self._parameters(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self._rng.setstate((3, tuple(state["rng"]), None))
        self.losses, self.seconds = state["losses"], state["seconds"]


def prepare(
    training: PreparatoryTraining,
    path: Path,
    *,
    deadline: float = math.inf,
    on_progress: OnProgress = ignore_progress,
) -> bool:
    """Train to the last step, from the saved state if any; return whether it was reached.

    It is not reached if the deadline comes first.

    Args:
        training: what is trained.
        path: file that holds the weights.
        deadline: latest end, on time.monotonic's clock.
        on_progress: receives an event after every step.

    Raises:
        EvaluationError: training diverged.
        StorageError: the file cannot be written, is damaged, or belongs to another study.
    """
    if path.exists():
        training.restore(path)
    over = training.done or time.monotonic() >= deadline
    while not over:
        training.step()
        over = training.done or time.monotonic() >= deadline
        if over or len(training.losses) % _SAVE_EVERY == 0:
            training.save(path)
        on_progress(_event(training))
    return training.done


def _event(training: PreparatoryTraining) -> Progress:
    """Return the progress event for the last step."""
    steps, loss = training.settings.steps, f"loss {training.loss():.2f}"
    message = f"{training.noun} trained: {steps:,} steps, {loss}" if training.done else None
    completed = len(training.losses)
    return Progress(training.noun, completed, steps, detail=loss, message=message)


def write_tensors(path: Path, state: dict[str, Any], noun: str) -> None:
    """Write a dictionary of tensors to a file, atomically.

    The `noun` names the content in error messages.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        with replacing(path, exclusive=True) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # the latter from torch, on a full disk
        raise StorageError(f"{path}: the {noun} cannot be written: {error}") from None


def read_tensors(path: Path, noun: str) -> dict[str, Any]:
    """Return the dictionary in a file that `write_tensors` wrote.

    Raises:
        StorageError: the file is missing or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else "a damaged one"
        raise StorageError(
            f"{path}: expected the weights of a {noun}, got {what}; delete it, and the same "
            "command trains them again"
        ) from None
    return state
