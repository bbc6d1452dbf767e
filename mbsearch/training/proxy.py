"""Proxy training: a short training on fewer, smaller images that replaces a long one.

It starts from random weights, or from the network's part of a supernet.
"""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from mbsearch.config.finals_settings import Finals
from mbsearch.config.preparation_settings import Teacher
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.recipe import Recipe
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.scores import Score
from mbsearch.data.batches import Split
from mbsearch.data.sources import ImageSource, load_source
from mbsearch.errors import EvaluationError, ExportError
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import ImageFormat
from mbsearch.space.size import Size
from mbsearch.study.records import DeadUnits, Evaluation, Fidelity, Int8Evaluation, Start
from mbsearch.training.dead_units import dead_units
from mbsearch.training.devices import choose_device, device_name
from mbsearch.training.long_training import Int8Predictor, LongTraining
from mbsearch.training.loop import Training, evaluated, saved
from mbsearch.training.network import build
from mbsearch.training.pretrained import (
    Pretrained,
    long_recipe,
    screening_recipe,
    shared_weights,
)
from mbsearch.training.supernet.shared_weights import inherit, thinner

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory")

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProxyTraining:
    """Evaluator that trains each network by the same short recipe.

    A network is trained at ``proxy.pixels(resolution)`` and for the images' number of classes, on
    training and validation images only. Its initial weights come from `pretrained`, else from the
    supernet in the file `shared`, else they are fresh. A promotion trains on `longer` times as many
    images. A final follows the `retrain` recipe on all training images, at `final_scale` times the
    network's own resolution. `teacher` has the settings of distillation. `score` is what the
    accuracy is. `int8` quantises the weights of finals; None if it is turned off.
    """

    proxy: Proxy
    data: str
    split_seed: int = 0
    device: str | None = None
    shared: Path | None = None
    longer: int = 1
    retrain: Retrain = field(default_factory=Retrain)
    finals: Finals = field(default_factory=Finals)
    final_scale: float = 1.0
    pretrained: Pretrained | None = None
    teacher: Teacher = field(default_factory=Teacher)
    score: Score = Score.ACCURACY
    int8: Int8Predictor | None = None

    def evaluate(self, task: Task) -> Outcome:
        """Train one network, from its checkpoint if any, and evaluate it on validation images.

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
        # Here no traceback refers to the training any more, so its memory can be freed.
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
        raise EvaluationError(_no_memory(task))

    def _train(self, task: Task) -> Outcome:
        if task.fidelity is Fidelity.FINAL:
            return self._train_final(task)
        source = self._source()
        architecture = thinner(task.architecture, self.proxy)
        network, start = self._network(architecture, task, self.proxy)
        if self.shared is not None and start is None and task.checkpoint is None:
            inherit(architecture, network, shared_weights(self.shared))
        proxy = self.proxy if start is None else screening_recipe(self.proxy, start)
        images = task.architecture.image_format.scaled(proxy.resolution_scale)
        if task.epochs is not None:
            proxy = proxy.model_copy(update={"epochs": task.epochs})
        if task.fidelity is Fidelity.PROMOTION:
            proxy = proxy.longer(self.longer, len(source.members["train"].rows))
        training = Training(
            network=network,
            recipe=proxy,
            train_split=self._split("train", images, proxy.train_images),
            validation_split=self._split("validation", images, proxy.validation_images),
            device=choose_device(self.device),
            seed=task.seed,
            flip=source.flippable if proxy.flip is None else proxy.flip,
            teacher=self.teacher,
            score=self.score,
        )
        if task.checkpoint is not None:
            training.restore(task.checkpoint)
        stop = _stop_epoch(task, proxy)
        while len(training.curve) < stop:
            training.run_epoch()
        evaluation = self._evaluation(training, task, images.size, proxy.evaluator, start)
        return Outcome(evaluation, training.checkpoint() if stop < proxy.epochs else None)

    def _source(self) -> ImageSource:
        return _source(self.data, self.split_seed, self.proxy.min_images)

    def _network(
        self, architecture: Architecture, task: Task, recipe: Recipe
    ) -> tuple[nn.Module, Start | None]:
        """Return a task's network and where its initial weights come from."""
        classes = self._source().num_classes
        network = build(
            architecture,
            num_classes=classes,
            zero_init_residual=recipe.zero_init_residual,
            seed=task.seed,
        )
        if self.pretrained is None:
            return network, None
        ours = architecture.replace(num_classes=classes)
        return network, self.pretrained.begin(network, ours, task.origin)

    def _train_final(self, task: Task) -> Outcome:
        """Train by the full recipe at the network's own resolution, and evaluate the network.

        The outcome has the predictions on validation images.
        """
        source = self._source()
        recipe = self.retrain.sized(len(source.members["train"].rows))
        network, start = self._network(task.architecture, task, recipe)
        if start is not None:
            recipe = long_recipe(recipe, start, task.architecture)
        if task.epochs is not None:
            recipe = recipe.model_copy(update={"epochs": task.epochs})
        own = task.architecture.image_format.scaled(self.final_scale)
        formats = [
            own.scaled(self.finals.pixel_scale(e, recipe.epochs)) for e in range(recipe.epochs)
        ]
        training = LongTraining(
            network=network,
            recipe=recipe,
            train_split=self._split("train", formats[0], None),
            validation_split=self._split("validation", formats[0], None),
            device=choose_device(self.device),
            seed=task.seed,
            flip=source.flippable if recipe.flip is None else recipe.flip,
            teacher=self.teacher,
            score=self.score,
        )
        if task.checkpoint is not None:
            training.restore(task.checkpoint)
            last = formats[len(training.curve) - 1]
            training.train_split = self._split("train", last, None)
            training.validation_split = self._split("validation", last, None)
        stop = _stop_epoch(task, recipe)
        while (done := len(training.curve)) < stop:
            if formats[done].shape[1:] != tuple(training.train_split.images.shape[2:]):
                training.replace_images(
                    self._split("train", formats[done], None),
                    self._split("validation", formats[done], None),
                )
            training.run_epoch()
        evaluation = self._evaluation(training, task, formats[stop - 1].size, "finals", start)
        if stop < recipe.epochs:
            return Outcome(evaluation, training.checkpoint())
        validation = self._split("validation", own, None)
        _, kept = evaluated(training.scored, validation, training.device)
        int8 = self._int8(task, training.scored, validation) if task.int8 else None
        evaluation = replace(evaluation, predictions=kept, int8=int8)
        return Outcome(evaluation, weights=saved(training.scored.state_dict()))

    def _int8(self, task: Task, network: nn.Module, scored: Split) -> Int8Evaluation | None:
        """Validate a final's weights as an int8 network; None if it cannot be quantised."""
        if self.int8 is None:
            return None
        started, source = time.perf_counter(), self._source()
        architecture = task.architecture.replace(num_classes=source.num_classes)
        try:
            (found,) = self.int8(architecture, network, source, [scored])
        except ExportError as error:
            _LOGGER.warning(f"no int8 accuracy: {error}")
            return None
        return Int8Evaluation(found, time.perf_counter() - started)

    def _split(
        self, kind: Literal["train", "validation"], images: ImageFormat, limit: int | None
    ) -> Split:
        split = _split(self.data, self.split_seed, self.proxy.min_images, kind, images, limit)
        if self.pretrained is None or kind == "validation":
            return split
        return self.pretrained.taught(split, self._source(), kind, limit)

    def _evaluation(
        self, training: Training, task: Task, pixels: Size, evaluator: str, start: Start | None
    ) -> Evaluation:
        last = training.curve[-1]
        return Evaluation(
            accuracy=last.validation_accuracy,
            validation_loss=last.validation_loss,
            seconds=sum(epoch.seconds for epoch in training.curve),
            seed=task.seed,
            pixels=pixels,
            curve=tuple(training.curve),
            evaluator=evaluator,
            recipe=training.recipe.model_dump(mode="json") | {"data": Path(self.data).name},
            device=device_name(training.device),
            versions={name: version(name) for name in ("mbsearch", "torch")},
            images=None if training.validation_split is None else len(training.validation_split),
            start=start,
            dead=_dead_units(training),
        )


def _dead_units(training: Training) -> DeadUnits | None:
    """Return the dead units of a completed training's network; None if it has not completed."""
    if training.validation_split is None or len(training.curve) < training.recipe.epochs:
        return None
    return dead_units(training.scored, training.validation_split, training.device)


def _stop_epoch(task: Task, recipe: Recipe) -> int:
    """Return the number of epochs after which a task's training stops."""
    return recipe.epochs if task.stop_epoch is None else min(task.stop_epoch, recipe.epochs)


def _no_memory(task: Task) -> str:
    return (
        f"out of memory while training {task.architecture.name} at resolution "
        f"{task.architecture.resolution}; a smaller proxy.batch_size needs less"
    )


@lru_cache(maxsize=2)
def _source(data: str, seed: int, min_images: int) -> ImageSource:
    """Return the image source, which a worker opens only once."""
    return load_source(data, seed=seed, min_images=min_images)


@lru_cache(maxsize=16)
def _split(
    data: str, seed: int, min_images: int, kind: str, images: ImageFormat, limit: int | None
) -> Split:
    source = _source(data, seed, min_images)
    return source.split("train" if kind == "train" else "validation", images, limit)
