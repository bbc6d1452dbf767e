"""A GPU's training step as a recording that is replayed.

The small networks of a proxy keep a GPU busy for a fraction of the time that Python takes to call
its kernels one by one; a CUDA graph calls them all at once (docs/throughput.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[..., Tensor]
"""Trains on the tensors of a batch, and gives the loss."""

_FIRST = 3  # as many as torch's own make_graphed_callables makes


@dataclass(frozen=True, slots=True)
class _Recording:
    """A CUDA graph of a step, and the memory that it reads from and writes to."""

    graph: torch.cuda.CUDAGraph
    batch: tuple[Tensor, ...]
    loss: Tensor


class RecordedStep:
    """A step that does the same to batches of one shape, whatever they hold.

    What differs between steps, as the learning rate, it must read from tensors on the device. The
    first steps are made as they are; they allocate what the optimiser remembers. The step is given
    anew each time: kept, it would keep alive whoever it belongs to, with all the device's memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = _FIRST
        # Off the stream where all else runs, as recording demands.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._recording: _Recording | None = None

    def __call__(self, step: Step, *batch: Tensor) -> Tensor:
        """Train on a batch; the loss lies in memory that the next step's will take."""
        if self._first > 0:
            self._first -= 1
            return self._aside(step, *batch)
        if self._recording is None:
            self._recording = self._record(step, *batch)
        recording = self._recording
        for kept, given in zip(recording.batch, batch, strict=True):
            kept.copy_(given)
        recording.graph.replay()
        return recording.loss

    def _aside(self, step: Step, *batch: Tensor) -> Tensor:
        current = torch.cuda.current_stream(batch[0].device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = step(*batch)
        current.wait_stream(self._stream)
        return loss

    def _record(self, step: Step, *batch: Tensor) -> _Recording:
        """Record a step, which does not make it."""
        graph, kept = torch.cuda.CUDAGraph(), tuple(each.clone() for each in batch)
        with torch.cuda.graph(graph, stream=self._stream):
            loss = step(*kept)
        return _Recording(graph, kept, loss)
