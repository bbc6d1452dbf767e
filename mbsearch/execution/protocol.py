"""The interface between the search and evaluators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mbsearch.space.architecture import Architecture
from mbsearch.study.records import SEARCH, Evaluation, Fidelity


@dataclass(frozen=True, slots=True)
class Task:
    """A task for an evaluator: train a network up to an epoch, from a checkpoint if given.

    `stop_epoch` None means the end of the schedule. `checkpoint` is that of the previous rung of
    the trial; None starts from weights drawn with `seed`. The recipe is that of the `fidelity`;
    `epochs` is its length if it is not the recipe's own. `origin` is ``search``, or the family of a
    reference. `int8` asks for a validation of a final's weights after quantisation to int8.
    """

    architecture: Architecture
    seed: int
    stop_epoch: int | None = None
    checkpoint: bytes | None = None
    fidelity: Fidelity = Fidelity.SCREENING
    epochs: int | None = None
    origin: str = SEARCH
    int8: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task's evaluation, with a checkpoint if the schedule has not ended.

    At the end of a final training, `weights` are the trained parameters (a saved state dict).
    """

    evaluation: Evaluation
    checkpoint: bytes | None = None
    weights: bytes | None = None


class Evaluator(Protocol):
    """Interface for training and evaluating networks.

    It is pickled for the worker processes, and opens its data on first use in each of them. It is
    deterministic: the same task on the same machine with one thread gives the same outcome.
    """

    def evaluate(self, task: Task) -> Outcome:
        """Train and evaluate one network.

        Raises:
            DataError: the images cannot be used; the search ends with it.
            StorageError: a file cannot be used; the search ends with it.
            EvaluationError: training diverged, ran out of memory, or the network cannot be built;
                the message is stored with the trial.
        """
