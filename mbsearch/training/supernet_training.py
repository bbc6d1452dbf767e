"""Training of a supernet: every step a random network on one batch, with the shared weights.

Uniform single paths (arXiv 1904.00420, section 3.2). The state is on disk every `_SAVE_EVERY`
steps: whatever kills the process, the next run goes on from there.
"""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbsearch.errors import EvaluationError, StorageError
from mbsearch.space.architecture import Architecture
from mbsearch.space.catalog import baseline_architectures
from mbsearch.space.settings import Proxy
from mbsearch.space.space import SearchSpace
from mbsearch.training.data import Split, batches
from mbsearch.training.loop import decay_groups, schedule
from mbsearch.training.network import skeleton
from mbsearch.training.sources import ImageSource
from mbsearch.training.supernet import Shared, forward, fresh_weights, is_whole, slices, thinner

_SAVE_EVERY = 100
_SHAPES_FROM = 300  # candidates; each choice of a space is met dozens of times
_AVERAGED = 50  # steps


@dataclass
class SupernetTraining:
    """The shared weights of a space, with its baselines, in training on a source's images."""

    space: SearchSpace
    source: ImageSource
    seed: int
    device: torch.device
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    _splits: dict[int, Split] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._baselines = [network for _, network in baseline_architectures(self.space)]
        self._rng = Random(f"{self.seed}/paths")
        self._generator = torch.Generator().manual_seed(self.seed)

    @cached_property
    def _weights(self) -> dict[str, nn.Parameter]:
        """Fresh ones, unless `restore` has read them: finding the shapes takes seconds."""
        rng = Random(f"{self.seed}/shapes")
        drawn = (self.space.decode(self.space.sample_params(rng)) for _ in range(_SHAPES_FROM))
        networks = [self._trained(each) for each in (*self._baselines, *drawn)]
        return self._parameters(fresh_weights(networks, self.seed))

    @cached_property
    def _optimizer(self) -> torch.optim.Optimizer:
        settings = self._proxy.supernet
        groups = decay_groups(self._weights.values(), settings.weight_decay)
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)

    def _parameters(self, weights: Shared) -> dict[str, nn.Parameter]:
        return {name: nn.Parameter(value.to(self.device)) for name, value in weights.items()}

    @property
    def _proxy(self) -> Proxy:
        return self.space.settings.proxy

    @property
    def done(self) -> bool:
        """Whether every step has been made."""
        return len(self.losses) >= self._proxy.supernet.steps

    def step(self) -> None:
        """Train one network on one batch.

        Raises:
            EvaluationError: the loss is not finite any more.
        """
        started, settings = time.perf_counter(), self._proxy.supernet
        network, views, pixels = self._path()
        images, labels = self._batch(pixels)
        rate = settings.learning_rate * schedule(len(self.losses), settings.steps, settings.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = F.cross_entropy(forward(network, views, images), labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise EvaluationError(
                f"the supernet diverged in step {len(self.losses) + 1}: the loss is {value}; "
                "expected a smaller proxy.supernet.learning_rate"
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.losses.append(value)
        self.seconds += time.perf_counter() - started

    def loss(self) -> float:
        """Mean training loss (nats) of the last steps."""
        last = self.losses[-_AVERAGED:]
        return sum(last) / len(last) if last else math.nan

    def _trained(self, candidate: Architecture) -> Architecture:
        return thinner(candidate, self._proxy).replace(num_classes=self.source.num_classes)

    def _path(self) -> tuple[nn.Module, dict[str, Tensor], int]:
        """A random candidate's skeleton, its part of the weights, and its images' side in pixels.

        Where the shared weights do not reach as far, for what it has is rare, another one is drawn.
        """
        while True:
            candidate = self._draw()
            trained = self._trained(candidate)
            network = skeleton(trained)
            views = slices(trained, network, self._weights)
            if is_whole(network, views):
                return network, views, self._proxy.pixels(candidate.resolution)

    def _draw(self) -> Architecture:
        if self._baselines and self._rng.random() < self._proxy.supernet.baselines:
            return self._rng.choice(self._baselines)
        return self.space.decode(self.space.sample_params(self._rng))

    def _batch(self, pixels: int) -> tuple[Tensor, Tensor]:
        """Random images at the candidate's resolution, augmented as the proxy's are."""
        if pixels not in self._splits:
            self._splits[pixels] = self.source.split("train", pixels)
        split, proxy = self._splits[pixels], self._proxy
        size = min(proxy.supernet.batch_size, len(split))
        rows = torch.randint(len(split), (size,), generator=self._generator)
        chosen = Split(
            split.images[rows], split.labels[rows], split.mean, split.std, split.num_classes
        )
        whole: Iterator[tuple[Tensor, Tensor]] = batches(
            chosen,
            size,
            generator=self._generator,
            flip=self.source.flippable if proxy.flip is None else proxy.flip,
            shift=proxy.shift,
            cutout=proxy.cutout,
            device=self.device,
        )
        return next(whole)

    def _made_by(self) -> dict[str, Any]:
        """What the weights depend on; the recipe of the trials after it is not among it."""
        proxy = self._proxy
        return {
            "space": self.space.fingerprint,
            "baselines": [network.fingerprint for network in self._baselines],
            "supernet": proxy.supernet.model_dump(mode="json"),
            "scales": [proxy.width_scale, proxy.resolution_scale],
            "augmentation": [proxy.flip, proxy.shift, proxy.cutout],
            "data": self.source.content_key,
            "seed": self.seed,
        }

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on, all or nothing.

        Raises:
            StorageError: it cannot be written.
        """
        state = {
            "made_by": self._made_by(),
            "weights": {name: weight.detach() for name, weight in self._weights.items()},
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "rng": list(self._rng.getstate()[1]),
            "losses": self.losses,
            "seconds": self.seconds,
        }
        part = path.with_suffix(".part")
        try:
            torch.save(state, part)
            part.replace(path)
        except (OSError, RuntimeError) as error:  # the latter from torch, on a full disk
            raise StorageError(f"{path}: the supernet cannot be written: {error}") from None

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            StorageError: the file is damaged, or was made by other settings.
        """
        state = _read(path)
        if state["made_by"] != self._made_by():
            raise StorageError(
                f"{path}: expected the supernet of this space, proxy, data and seed, got another "
                "one; delete it, or take another --name"
            )
        self._weights = self._parameters(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self._rng.setstate((3, tuple(state["rng"]), None))
        self.losses, self.seconds = state["losses"], state["seconds"]


def train_supernet(
    training: SupernetTraining,
    path: Path,
    *,
    deadline: float = math.inf,
    on_step: Callable[[int, float], None] = lambda _done, _loss: None,
) -> bool:
    """Train a supernet to its end, from where it stands on disk; False where time ran out before.

    Args:
        path: of the file that holds the weights.
        deadline: on time.monotonic's clock.
        on_step: called after every step with their number and the mean loss of the last ones.

    Raises:
        EvaluationError: training diverged.
        StorageError: the file cannot be written, is damaged, or belongs to another space.
    """
    if path.exists():
        training.restore(path)
    over = training.done or time.monotonic() >= deadline
    while not over:
        training.step()
        over = training.done or time.monotonic() >= deadline
        if over or len(training.losses) % _SAVE_EVERY == 0:
            training.save(path)
        on_step(len(training.losses), training.loss())
    return training.done


def load_shared(path: Path) -> dict[str, Tensor]:
    """The shared weights of a trained supernet, by name.

    Raises:
        StorageError: the file is missing or damaged.
    """
    weights: dict[str, Tensor] = _read(path)["weights"]
    return weights


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else "a damaged one"
        raise StorageError(
            f"{path}: expected the weights of a supernet, got {what}; delete it, and the same "
            "command trains them again"
        ) from None
    return state
