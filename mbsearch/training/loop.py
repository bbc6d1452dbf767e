"""The training loop: one network and one recipe, resumable after each epoch."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from mbsearch import accel
from mbsearch.config.preparation_settings import Teacher
from mbsearch.config.recipe import Recipe
from mbsearch.config.scores import Score
from mbsearch.data.batches import Batch, Split, batches
from mbsearch.errors import EvaluationError
from mbsearch.study.class_scores import effective_images, score_of
from mbsearch.study.records import Epoch, Predictions
from mbsearch.training.devices import mixed_precision, multiplies_bfloat16
from mbsearch.training.folding import fold_norms

EVALUATION_BATCH = 250  # larger ones exceed the caches of a core


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device in place, in channels-last format, and accelerate it."""
    return accel.accelerate(network.to(device).to(memory_format=torch.channels_last), device)


def compile_ahead(device: torch.device) -> None:
    """Compile the training kernels for a device, once per machine."""
    accel.compile_ahead(device, bfloat16=multiplies_bfloat16(device))


@dataclass
class Training:
    """The training of one network, epoch by epoch; a checkpoint holds its whole state.

    Without a validation split the curve's validation values are NaN. `score` is what the accuracy
    of the curve is. If the training split has a
    teacher's logits, the loss is `distillation` with the settings in `teacher`.
    """

    network: nn.Module
    recipe: Recipe
    train_split: Split
    validation_split: Split | None
    device: torch.device
    seed: int
    flip: bool
    teacher: Teacher = field(default_factory=Teacher)
    score: Score = Score.ACCURACY
    curve: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        place(self.network, self.device)
        groups = decay_groups(self.network.parameters(), self.recipe.weight_decay)
        self._optimizer = accel.optimizer(groups, self.recipe, self.device)
        self._generator = torch.Generator().manual_seed(self.seed)
        self._forward: nn.Module = self.network
        self._class_weights = self._weigh_classes()
        self._run_step = accel.step_runner(self.device, constant=self.repeats)

    @property
    def repeats(self) -> bool:
        """Whether every training step runs the same operations, all on the device."""
        return True

    @property
    def scored(self) -> nn.Module:
        """The network that is evaluated after each epoch."""
        return self.network

    def _weigh_classes(self) -> Tensor | None:
        """Return the factor of each class in the loss; None if all are 1."""
        if self.recipe.class_weights == "none":
            return None
        return balancing_weights(self.train_split).to(self.device)

    def replace_images(self, train_split: Split, validation_split: Split | None) -> None:
        """Replace the training and validation images, possibly by images of another size."""
        self.train_split, self.validation_split = train_split, validation_split
        self._run_step = accel.step_runner(self.device, constant=self.repeats)

    def run_epoch(self) -> Epoch:
        """Train for one epoch, then evaluate on the validation split if there is one.

        Raises:
            EvaluationError: the loss is not finite.
        """
        started = time.perf_counter()
        train_loss = self._train_once()
        if not math.isfinite(train_loss):
            raise EvaluationError(
                f"training diverged in epoch {len(self.curve) + 1}: the loss is {train_loss}"
            )
        loss, accuracy, effective = math.nan, math.nan, None
        if self.validation_split is not None:
            balanced = self.score is not Score.ACCURACY
            split = self.validation_split
            loss, found = evaluated(self.scored, split, self.device, balanced=balanced)
            accuracy = score_of(self.score, found)
            effective = effective_images(self.score, found) if balanced else None
            if not math.isfinite(loss):
                raise EvaluationError(
                    f"training diverged in epoch {len(self.curve) + 1}: the validation loss is "
                    f"{loss}"
                )
        seconds = time.perf_counter() - started
        self.curve.append(Epoch(train_loss, loss, accuracy, seconds, effective))
        return self.curve[-1]

    def _train_once(self) -> float:
        recipe = self.recipe
        batch_size = min(recipe.batch_size, len(self.train_split))
        steps = len(self.train_split) // batch_size
        done, whole = len(self.curve) * steps, recipe.epochs * steps
        total = torch.zeros((), device=self.device)
        self.network.train()
        epoch = batches(
            self.train_split,
            batch_size,
            generator=self._generator,
            flip=self.flip,
            shift=recipe.shift,
            cutout=recipe.cutout,
            device=self.device,
            drop_last=True,  # a last batch of one image would have no batch statistics
        )
        for step, batch in enumerate(epoch, start=done):
            rate = recipe.learning_rate * schedule(step, whole, recipe.warmup)
            self._set_rate(rate)
            tensors = [each for each in batch if each is not None]
            # Read the sum once per epoch: a read waits for the device.
            total += self._run_step(self._step, *tensors)
            self.after_step()
        return float(total) / steps

    def _step(self, *tensors: Tensor) -> Tensor:
        """Update the network on one batch, and return the loss."""
        with mixed_precision(self.device):
            loss = self.loss(Batch(*tensors))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.detach()

    def _set_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss (nats) that a training step minimises."""
        logits = self._forward(batch.images)
        return distillation(
            self.cross_entropy(logits, batch.labels), logits, batch.taught, self.teacher
        )

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy (nats) by the recipe: smoothed, and weighted by class."""
        return F.cross_entropy(
            logits, labels, self._class_weights, label_smoothing=self.recipe.label_smoothing
        )

    def after_step(self) -> None:
        """Do nothing; subclasses override this hook, which runs after every optimizer step."""

    def checkpoint(self) -> bytes:
        """Return the training's state as bytes, to resume after this epoch."""
        return saved(self.state())

    def restore(self, checkpoint: bytes) -> None:
        """Restore the state from a checkpoint of the same network and recipe."""
        self.load_state(
            torch.load(io.BytesIO(checkpoint), map_location=self.device, weights_only=True)
        )

    def state(self) -> dict[str, Any]:
        """Return the training's state as plain data and tensors."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "curve": [astuple(epoch) for epoch in self.curve],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `state` returned."""
        self.network.load_state_dict(state["network"])
        # Learning rates and options are for this device; the checkpoint may come from another.
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        self._generator.set_state(state["generator"].cpu())
        self.curve = [Epoch(*point) for point in state["curve"]]


def forward_with(weights: Mapping[str, Tensor], network: nn.Module, images: Tensor) -> Tensor:
    """Return logits (N, num_classes) of a network in training mode, with the given weights.

    Running statistics are not kept: they mean nothing to another network with the same weights.

    Args:
        weights: every parameter by name, on the images' device.
        network: a `skeleton` is enough; it is accelerated in place.
        images: normalized, (N, C, H, W).
    """
    state = dict(weights) | {
        name: torch.zeros(buffer.shape, dtype=buffer.dtype, device=images.device)
        for name, buffer in network.named_buffers()
    }
    network = accel.accelerate(network.train(), images.device)
    logits: Tensor = functional_call(network, state, (images,))
    return logits


def distillation(loss: Tensor, logits: Tensor, taught: Tensor | None, teacher: Teacher) -> Tensor:
    """Return a student's loss: the weighted mean of its own loss and the teacher's term.

    The teacher's term is the Kullback-Leibler divergence (nats) of the student's class
    probabilities from the teacher's, both at the teacher's temperature, times the temperature
    squared (Hinton et al., arXiv 1503.02531, section 2). Without a teacher's logits the student's
    own loss is returned.

    Args:
        loss: the student's own.
        logits: logits of the student, (B, num_classes).
        taught: logits of the teacher, (B, num_classes).
        teacher: its temperature, and the weight of its term.
    """
    if taught is None or teacher.weight == 0:
        return loss
    divergence = F.kl_div(
        F.log_softmax(logits.float() / teacher.temperature, 1),
        F.log_softmax(taught / teacher.temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - teacher.weight) * loss + teacher.weight * teacher.temperature**2 * divergence


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the factor on the learning rate: linear warmup, then half a cosine down to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def balancing_weights(split: Split) -> Tensor:
    """Return a factor per class: inversely proportional to its images, with a mean of 1 over them.

    It is 0 for a class without images.
    """
    counts = torch.bincount(split.labels, minlength=split.num_classes)
    present = counts > 0
    weights = len(split) / (present.sum() * counts.clamp(min=1))
    return torch.where(present, weights, 0.0).float()


def saved(state: Mapping[str, Any]) -> bytes:
    """Return tensors and plain data as bytes that ``torch.load`` reads."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@torch.inference_mode()
def evaluated(
    network: nn.Module, split: Split, device: torch.device, *, balanced: bool = False
) -> tuple[float, Predictions]:
    """Return the mean cross-entropy (nats) and the predictions on a split, not augmented.

    The mean is over images, or if `balanced` over classes.
    """
    folded = fold_norms(network)
    weights = balancing_weights(split).to(device) if balanced else None
    loss = torch.zeros((), device=device)
    found, confidences = [], []  # read at the end: a read waits for the device
    for images, labels, _ in batches(split, EVALUATION_BATCH, device=device):
        with mixed_precision(device):
            logits: Tensor = folded(images)
        loss += F.cross_entropy(logits.float(), labels, weights, reduction="sum")
        found.append(logits.argmax(1))
        confidences.append(logits.float().softmax(1).amax(1))
    predicted = torch.cat(found).cpu().numpy().astype(np.uint16)
    confidence = (255 * torch.cat(confidences)).round().to(torch.uint8).cpu().numpy()
    true = split.labels.numpy().astype(np.uint16)
    return float(loss) / len(split), Predictions(true, predicted, confidence)


def evaluate(network: nn.Module, split: Split, device: torch.device) -> tuple[float, float]:
    """Return the mean cross-entropy (nats) and accuracy on a split, without augmentation."""
    loss, predictions = evaluated(network, split, device)
    return loss, score_of(Score.ACCURACY, predictions)


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return optimizer groups: weights with weight decay, biases and norms without."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
