"""Training steps on a GPU, recorded as a CUDA graph and replayed.

A step of a small network takes a GPU a fraction of the time that Python needs to launch its kernels
one by one. A CUDA graph launches them all at once (docs/throughput.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[..., Tensor]
"""Trains on the tensors of a batch and returns the loss."""

_WARM_UP_STEPS = 3  # as in torch's make_graphed_callables


@dataclass(frozen=True, slots=True)
class _Recording:
    """The CUDA graph of a step, with the tensors of its batch and its loss."""

    graph: torch.cuda.CUDAGraph
    batch: tuple[Tensor, ...]
    loss: Tensor


class RecordedStep:
    """Runs a training step by a CUDA graph; all batches must have the same shapes.

    Values that change between steps, such as the learning rate, must be tensors on the device. The
    first steps run without a graph, and allocate the optimizer's state. The step is an argument of
    each call: a stored one would keep its owner and the owner's device memory alive.
    """

    def __init__(self, device: torch.device) -> None:
        self._warm_up_left = _WARM_UP_STEPS
        # Recording needs another stream than the current one.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._recording: _Recording | None = None

    def __call__(self, step: Step, *batch: Tensor) -> Tensor:
        """Run a training step and return its loss, which the next call overwrites."""
        if self._warm_up_left > 0:
            self._warm_up_left -= 1
            return self._on_stream(step, *batch)
        if self._recording is None:
            self._recording = self._record(step, *batch)
        recording = self._recording
        for kept, given in zip(recording.batch, batch, strict=True):
            kept.copy_(given)
        recording.graph.replay()
        return recording.loss

    def _on_stream(self, step: Step, *batch: Tensor) -> Tensor:
        current = torch.cuda.current_stream(batch[0].device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = step(*batch)
        current.wait_stream(self._stream)
        return loss

    def _record(self, step: Step, *batch: Tensor) -> _Recording:
        """Record a step as a CUDA graph, without running it."""
        graph, kept = torch.cuda.CUDAGraph(), tuple(each.clone() for each in batch)
        with torch.cuda.graph(graph, stream=self._stream):
            loss = step(*kept)
        return _Recording(graph, kept, loss)
