"""A GPU's training step as a recording that is replayed.

The small networks of a proxy keep a GPU busy for a fraction of the time that Python takes to call
its kernels one by one; a CUDA graph calls them all at once (docs/throughput.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], Tensor]
"""Trains on a batch of images (N, C, H, W) and labels (N,), and gives the loss."""

_FIRST = 3  # as many as torch's own make_graphed_callables makes


@dataclass(frozen=True, slots=True)
class _Recording:
    """A CUDA graph of a step, and the memory that it reads from and writes to."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    labels: Tensor
    loss: Tensor


class Replayed:
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

    def __call__(self, step: Step, images: Tensor, labels: Tensor) -> Tensor:
        """Train on a batch; the loss lies in memory that the next step's will take."""
        if self._first > 0:
            self._first -= 1
            return self._aside(step, images, labels)
        if self._recording is None:
            self._recording = self._record(step, images, labels)
        recording = self._recording
        recording.images.copy_(images)
        recording.labels.copy_(labels)
        recording.graph.replay()
        return recording.loss

    def _aside(self, step: Step, images: Tensor, labels: Tensor) -> Tensor:
        current = torch.cuda.current_stream(images.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = step(images, labels)
        current.wait_stream(self._stream)
        return loss

    def _record(self, step: Step, images: Tensor, labels: Tensor) -> _Recording:
        """Record a step, which does not make it."""
        graph, images, labels = torch.cuda.CUDAGraph(), images.clone(), labels.clone()
        with torch.cuda.graph(graph, stream=self._stream):
            loss = step(images, labels)
        return _Recording(graph, images, labels, loss)
