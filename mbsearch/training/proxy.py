"""Proxy training: a short training on fewer, smaller images that stands for a long one.

It starts from fresh weights, or from the network's part of a supernet's.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from mbsearch.errors import EvaluationError
from mbsearch.records import Evaluation, Fidelity
from mbsearch.search.evaluator import Outcome, Task
from mbsearch.space.settings import Proxy
from mbsearch.training.data import Split
from mbsearch.training.loop import Training
from mbsearch.training.machine import choose_device, device_name
from mbsearch.training.network import build
from mbsearch.training.sources import ImageSource, load_source
from mbsearch.training.supernet import inherit, thinner
from mbsearch.training.supernet_training import load_shared

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory")


@dataclass(frozen=True, slots=True)
class ProxyTraining:
    """Evaluator that trains each network alone, by the same short recipe.

    The network is trained at ``proxy.pixels(resolution)`` and for the images' number of classes;
    it sees training and validation images only. It starts from its part of the weights in the file
    `shared`, or without one from fresh weights. A promoted one sees `longer` times as many images.
    """

    proxy: Proxy
    data: str
    split_seed: int = 0
    device: str | None = None
    shared: Path | None = None
    longer: int = 1

    def evaluate(self, task: Task) -> Outcome:
        """Train one network, from its checkpoint where it has one, and score it.

        Raises:
            DataError: the images cannot be read.
            EvaluationError: training diverged or ran out of memory, or there are no shared weights.
        """
        try:
            return self._train(task)
        except MemoryError:
            pass
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not any(words in str(error) for words in _OUT_OF_MEMORY):
                raise
        # Out here, where no traceback holds the training any more, its memory can be given back.
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
        raise EvaluationError(_no_memory(task))

    def _train(self, task: Task) -> Outcome:
        proxy, pixels = self.proxy, self.proxy.pixels(task.architecture.resolution)
        source = _source(self.data, self.split_seed)
        if task.fidelity is Fidelity.PROMOTION:
            proxy = proxy.longer(self.longer, len(source.members["train"].rows))
        train, validation = (
            _split(self.data, self.split_seed, kind, pixels, limit)
            for kind, limit in (
                ("train", proxy.train_images),
                ("validation", proxy.validation_images),
            )
        )
        device = choose_device(self.device)
        architecture = thinner(task.architecture, proxy)
        network = build(
            architecture,
            num_classes=source.num_classes,
            zero_init_residual=proxy.zero_init_residual,
            seed=task.seed,
        )
        if self.shared is not None and task.checkpoint is None:
            inherit(architecture, network, _shared(self.shared))
        training = Training(
            network=network,
            recipe=proxy,
            train_split=train,
            validation_split=validation,
            device=device,
            seed=task.seed,
            flip=source.flippable if proxy.flip is None else proxy.flip,
        )
        if task.checkpoint is not None:
            training.restore(task.checkpoint)
        stop = proxy.epochs if task.stop_epoch is None else min(task.stop_epoch, proxy.epochs)
        while len(training.curve) < stop:
            training.run_epoch()
        last = training.curve[-1]
        evaluation = Evaluation(
            accuracy=last.validation_accuracy,
            validation_loss=last.validation_loss,
            seconds=sum(epoch.seconds for epoch in training.curve),
            seed=task.seed,
            pixels=pixels,
            curve=tuple(training.curve),
            evaluator="training" if self.shared is None else "supernet",
            recipe=proxy.model_dump(mode="json") | {"data": self.data},
            device=device_name(device),
            versions={name: version(name) for name in ("mbsearch", "torch")},
        )
        return Outcome(evaluation, training.checkpoint() if stop < proxy.epochs else None)


def _no_memory(task: Task) -> str:
    return (
        f"out of memory while training {task.architecture.name} at resolution "
        f"{task.architecture.resolution}; a smaller proxy.batch_size needs less"
    )


@lru_cache(maxsize=2)
def _source(data: str, seed: int) -> ImageSource:
    """A worker opens its images once, not once a task."""
    return load_source(data, seed=seed)


@lru_cache(maxsize=1)
def _shared(path: Path) -> dict[str, Tensor]:
    return load_shared(path)


@lru_cache(maxsize=16)
def _split(data: str, seed: int, kind: str, pixels: int, limit: int | None) -> Split:
    source = _source(data, seed)
    return source.split("train" if kind == "train" else "validation", pixels, limit)
