"""Formats for mobile runtimes, ExecuTorch and LiteRT, with a batch size of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mbsearch.export.exportable import Exportable, Runner
from mbsearch.export.graphs import program

EXECUTORCH = "model.pte"
LITERT = "model.tflite"


def write_executorch(exportable: Exportable, folder: Path) -> None:
    """Write an ExecuTorch program for the XNNPACK backend."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(
        program(exportable, batch=1), partitioner=[XnnpackPartitioner()]
    )
    (folder / EXECUTORCH).write_bytes(lowered.to_executorch().buffer)


def read_executorch(exportable: Exportable, folder: Path) -> Runner:
    """Return a function that runs the program with ExecuTorch."""
    from executorch.runtime import Runtime

    forward = Runtime.get().load_program(folder / EXECUTORCH).load_method("forward")
    # The runtime reuses the memory of its outputs.
    return _one_by_one(lambda image: forward.execute([image])[0].clone())


def write_litert(exportable: Exportable, folder: Path) -> None:
    """Write a LiteRT (formerly TensorFlow Lite) file."""
    import litert_torch

    image = torch.zeros(1, *exportable.images.shape)
    litert_torch.convert(exportable.module, (image,)).export(folder / LITERT)


def read_litert(exportable: Exportable, folder: Path) -> Runner:
    """Return a function that runs the file with LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / LITERT), num_threads=1)
    interpreter.allocate_tensors()
    (images,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(image: Tensor) -> Tensor:
        interpreter.set_tensor(images["index"], image.numpy())
        interpreter.invoke()
        return torch.from_numpy(interpreter.get_tensor(logits["index"]))

    return _one_by_one(run)


def _one_by_one(run: Callable[[Tensor], Tensor]) -> Runner:
    return lambda images: torch.cat([run(image) for image in images.unsqueeze(1)])
