"""Formats that hold the network as a graph of operators: torch.export and ONNX."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mbsearch.export.job import Job, Runner
from mbsearch.training.folding import fold_norms

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROGRAM = "model.pt2"
ONNX = "model.onnx"
INT8 = "model.int8.onnx"
_TRACED_BATCH = 2  # torch.export takes a size of 1 for a constant


def program(job: Job, *, batch: int | None = None) -> torch.export.ExportedProgram:
    """The network as a graph of torch's operators, for any batch or a fixed one."""
    side = job.side
    images = torch.zeros(batch or _TRACED_BATCH, 3, side, side)
    dynamic = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    return torch.export.export(job.network, (images,), dynamic_shapes=dynamic)


def write_program(job: Job, folder: Path) -> None:
    """Write torch's own file of a graph."""
    torch.export.save(program(job), folder / PROGRAM)


def read_program(job: Job, folder: Path) -> Runner:
    """Load the graph; it needs no source."""
    return torch.export.load(folder / PROGRAM).module()


def write_onnx(job: Job, folder: Path) -> None:
    """Write one ONNX file of any batch, batch normalisations folded, notes in its metadata."""
    import onnx

    # With norms, and in place, the exporter takes 2.4 times as long to come to the same graph.
    folded = fold_norms(job.network)
    for module in folded.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6 | nn.Hardswish):
            module.inplace = False
    with warnings.catch_warnings(action="ignore"):  # torch's, about itself
        written = torch.onnx.export(
            program(replace(job, network=folded)),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
        )
    assert written is not None
    model = written.model_proto
    model.producer_name = "mbsearch"
    for end in (model.graph.input[0], model.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces that name this machine's folders
    notes = {
        "title": job.title,
        "input": "images: float32 RGB, (batch, 3, height, width)",
        "normalisation": "as in training" if job.normalisation is None else str(job.normalisation),
        "architecture": job.architecture.to_yaml(),
    }
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / ONNX)


def read_onnx(job: Job, folder: Path) -> Runner:
    """Run the file by onnxruntime."""
    return run_onnx(folder / ONNX)


def run_onnx(path: Path) -> Runner:
    """An ONNX file as a function, on one thread of the CPU."""
    session = onnx_session(path)
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run


def onnx_session(path: Path, threads: int = 1) -> InferenceSession:
    """An ONNX file, ready to run on so many threads of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
