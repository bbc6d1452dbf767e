"""Long training by the full recipe, and evaluation on test images."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mbsearch.config.preparation_settings import Teacher
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.scores import Score
from mbsearch.data.batches import Batch, Split
from mbsearch.data.calibration import calibration_images
from mbsearch.data.sources import ImageSource, load_source
from mbsearch.errors import EvaluationError, ExportError
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.class_scores import score_of
from mbsearch.study.records import Evaluation, Int8Evaluation, Predictions, Start
from mbsearch.study.training_files import CHECKPOINT, INT8_WEIGHTS, WEIGHTS, training_folder
from mbsearch.training.devices import device_name
from mbsearch.training.distributed import Rank, run_on_devices
from mbsearch.training.loop import Training, evaluated, saved
from mbsearch.training.network import BATCH_NORM_EPS, build
from mbsearch.training.pretrained import Pretrained, long_recipe
from mbsearch.training.quantization_aware import fine_tune
from mbsearch.training.weights import content_of, load_weights

Int8Predictor = Callable[[Architecture, nn.Module, ImageSource, Sequence[Split]], list[Predictions]]
"""Returns a trained network's predictions on each split, after quantisation to int8."""


_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file with the initial weights of one network; see `load_weights`."""

    fingerprint: str
    path: Path
    eps: float = BATCH_NORM_EPS

    def facts(self) -> dict[str, Any]:
        """Return the file's path and content hash, and the network's fingerprint and epsilon.

        A training from this file depends on all of them.

        Raises:
            DataError: the file cannot be read.
        """
        return {
            "fingerprint": self.fingerprint,
            "file": str(self.path),
            "content": content_of(self.path),
            "eps": self.eps,
        }


@dataclass(frozen=True, slots=True)
class FinalTraining:
    """Evaluator: train each network by the full recipe, and evaluate it on test images.

    After every epoch the state is saved in the training's own folder below `folder`, and the same
    task resumes from it. The final weights are in `weights.pt`. `score` is what the accuracy is.
    Several `devices` share each batch of a training; the first one evaluates it. With `int8`, which
    quantises a network, a recipe that is quantisation-aware also fine-tunes the network for int8,
    into `int8.pt`.
    """

    recipe: Retrain
    resolution_scale: float
    data: str
    folder: Path
    split_seed: int = 0
    devices: tuple[torch.device, ...] = (torch.device("cpu"),)
    start: WeightsFile | None = None
    pretrained: Pretrained | None = None
    teacher: Teacher = field(default_factory=Teacher)
    min_images: int = 1
    score: Score = Score.ACCURACY
    int8: Int8Predictor | None = None

    def home(self, task: Task) -> Path:
        """Return the folder of one training's checkpoint and weights."""
        return training_folder(self.folder, task.architecture.fingerprint, task.seed)

    def evaluate(self, task: Task) -> Outcome:
        """Train one network to the last epoch, from its checkpoint if any, and evaluate it.

        Accuracy, loss and predictions are those on the test images.

        Raises:
            DataError: the images, or the weights to start from, cannot be read.
            EvaluationError: training diverged.
            StorageError: a checkpoint cannot be written, or is damaged.
        """
        device = self.devices[0]
        if len(self.devices) > 1:
            run_on_devices(partial(self._train_share, task), self.devices)
        source, images = self._source(), self._images(task)
        training, start = self._train(task, source)
        test = source.split("test", images)
        loss, predictions = evaluated(training.scored, test, device)
        weights = saved(training.scored.state_dict())
        write_atomically(self.home(task) / WEIGHTS, weights, exclusive=True)
        return Outcome(
            Evaluation(
                accuracy=score_of(self.score, predictions),
                validation_loss=loss,
                seconds=sum(epoch.seconds for epoch in training.curve),
                seed=task.seed,
                pixels=images.size,
                curve=tuple(training.curve),
                evaluator="retraining",
                recipe=training.recipe.model_dump(mode="json") | {"data": Path(self.data).name},
                device=device_name(device),
                versions={name: version(name) for name in ("mbsearch", "torch")},
                predictions=predictions,
                start=start,
                int8=self._int8(task, training, source, test),
            )
        )

    def _int8(
        self, task: Task, training: LongTraining, source: ImageSource, test: Split
    ) -> Int8Evaluation | None:
        """Return the evaluation as int8 after fine-tuning; None if it is off, or fails."""
        if self.int8 is None or not training.recipe.quantization_aware:
            return None
        try:
            return self._fine_tuned(self.int8, task, training, source, test)
        except ExportError as error:
            _LOGGER.warning(f"no int8 accuracy: {error}")
            return None

    def _fine_tuned(
        self,
        int8: Int8Predictor,
        task: Task,
        training: LongTraining,
        source: ImageSource,
        test: Split,
    ) -> Int8Evaluation:
        """Fine-tune a trained network for int8, and evaluate it as int8 before and after."""
        started, path = time.perf_counter(), self.home(task) / INT8_WEIGHTS
        architecture = task.architecture.replace(num_classes=source.num_classes)
        validation = source.split("validation", self._images(task))
        (before,) = int8(architecture, training.scored, source, [validation])
        tuned = build(architecture)
        if path.is_file():
            load_weights(tuned, path)
        else:
            tuned.load_state_dict(training.scored.state_dict())
            calibration = calibration_images(source, self._images(task))
            fine_tune(tuned, training, training.recipe, calibration)
            write_atomically(path, saved(tuned.state_dict()), exclusive=True)
        after, tested = int8(architecture, tuned, source, [validation, test])
        return Int8Evaluation(
            tested,
            time.perf_counter() - started,
            before=float(before.correct.mean()),
            after=float(after.correct.mean()),
        )

    def _train_share(self, task: Task, rank: Rank) -> None:
        """Train the network as one of several processes that share each batch."""
        self._train(task, self._source(), rank)

    def _source(self) -> ImageSource:
        return load_source(self.data, seed=self.split_seed, min_images=self.min_images)

    def _train(
        self, task: Task, source: ImageSource, rank: Rank | None = None
    ) -> tuple[LongTraining, Start | None]:
        """Train to the last epoch, from the checkpoint if any; the first rank saves checkpoints."""
        seen, recipe, start = source.seen(self._images(task)), self.recipe, None
        architecture = task.architecture.replace(num_classes=source.num_classes)
        network = build(
            architecture, zero_init_residual=self.recipe.zero_init_residual, seed=task.seed
        )
        if self.start is not None and self.start.fingerprint == task.architecture.fingerprint:
            load_weights(network, self.start.path, eps=self.start.eps)
        elif self.pretrained is not None:
            start = self.pretrained.begin(network, architecture, task.origin)
            recipe = long_recipe(recipe, start, architecture)
        if self.pretrained is not None:
            seen = self.pretrained.taught_on_all(seen)
        training = LongTraining(
            network=network,
            recipe=recipe,
            train_split=seen,
            validation_split=None,
            device=self.devices[0 if rank is None else rank.index],
            seed=task.seed,
            flip=source.flippable if self.recipe.flip is None else self.recipe.flip,
            teacher=self.teacher,
            rank=rank,
        )
        _restore(training, self.home(task) / CHECKPOINT)
        while len(training.curve) < self.recipe.epochs:
            training.run_epoch()
            if rank is None or rank.index == 0:
                write_atomically(
                    self.home(task) / CHECKPOINT, training.checkpoint(), exclusive=True
                )
        return training, start

    def _images(self, task: Task) -> ImageFormat:
        return task.architecture.image_format.scaled(self.resolution_scale)


@dataclass
class LongTraining(Training):
    """Training for long schedules: with averaged weights, mixup and several devices.

    Every rank draws the same batches and trains on its share of each. Gradients are averaged over
    ranks. Batch statistics are computed per rank; those of the first rank are saved.
    """

    recipe: Retrain
    rank: Rank | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank is not None:
            self._forward = DistributedDataParallel(self.network)
        self._average: AveragedModel | None = None
        if self.recipe.ema_decay > 0:
            self._average = AveragedModel(self.network, use_buffers=True)

    @property
    def repeats(self) -> bool:
        """Whether every training step runs the same operations: no mixup, one device."""
        return self.recipe.mixup == 0 and self.rank is None

    def replace_images(self, train_split: Split, validation_split: Split | None) -> None:
        """Replace the images; if their size changes, restart the average of the weights."""
        resized = train_split.images.shape != self.train_split.images.shape
        super().replace_images(train_split, validation_split)
        if resized and self._average is not None:
            self._average = AveragedModel(self.network, use_buffers=True)

    @property
    def scored(self) -> nn.Module:
        """The network with averaged weights if they are kept, otherwise the network itself."""
        return self.network if self._average is None else self._average.module

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss (nats) of a training step.

        With mixup it is the loss of mixed images, without a teacher.
        """
        if self.rank is not None:
            share = slice(self.rank.index, None, self.rank.count)
            images, labels, taught = batch
            taught = None if taught is None else taught[share]
            batch = Batch(images[share], labels[share], taught)
        if self.recipe.mixup == 0:
            return super().loss(batch)
        images, labels, _ = batch
        # One draw from the generator in all ranks, whose shares may differ in size.
        seed = int(torch.randint(2**31, (), generator=self._generator))
        chance = np.random.default_rng(seed)
        weight = float(chance.beta(self.recipe.mixup, self.recipe.mixup))
        other = torch.from_numpy(chance.permutation(len(labels))).to(labels.device)
        logits = self._forward(weight * images + (1 - weight) * images[other])
        first, second = (self.cross_entropy(logits, each) for each in (labels, labels[other]))
        return weight * first + (1 - weight) * second

    def after_step(self) -> None:
        """Update the averaged weights after a step.

        The decay increases over the first steps, as in TensorFlow. With a constant decay the
        untrained initial weights would dominate for many steps.
        """
        if self._average is not None:
            steps = int(self._average.n_averaged)  # on the CPU: no wait for the device
            decay = min(self.recipe.ema_decay, (1 + steps) / (10 + steps))
            self._average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self._average.update_parameters(self.network)

    def state(self) -> dict[str, Any]:
        """Return the training's state, including the averaged weights."""
        average = None if self._average is None else self._average.state_dict()
        return super().state() | {"average": average}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `state` returned."""
        super().load_state(state)
        if self._average is not None:
            self._average.load_state_dict(state["average"])


def _restore(training: Training, path: Path) -> None:
    if not path.is_file():
        return
    try:
        training.restore(path.read_bytes())
    except Exception as error:  # a damaged pickle makes torch raise anything
        raise EvaluationError(
            f"{path}: expected a checkpoint of this training, got one that cannot be read "
            f"({type(error).__name__}); remove it to start this training anew"
        ) from None
