"""Formats that store a network as a graph of operators: torch.export and ONNX."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mbsearch.export.exportable import Exportable, Runner
from mbsearch.export.preprocessing import PREPROCESSING, Preprocessing
from mbsearch.training.folding import fold_norms

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROGRAM = "model.pt2"
ONNX = "model.onnx"
INT8 = "model.int8.onnx"
_TRACED_BATCH = 2  # torch.export takes a size of 1 for a constant


def float_input(channels: int) -> str:
    """Return type and shape of the images, as the description of the input names them."""
    return f"float32, (batch, {channels}, height, width)"


def program(exportable: Exportable, *, batch: int | None = None) -> torch.export.ExportedProgram:
    """Export a network with torch.export, for a fixed batch size or for any size."""
    images = torch.zeros(batch or _TRACED_BATCH, *exportable.images.shape)
    dynamic = ({0: torch.export.Dim("batch", min=1)},) if batch is None else None
    return torch.export.export(exportable.module, (images,), dynamic_shapes=dynamic)


def write_program(exportable: Exportable, folder: Path) -> None:
    """Write a network as a torch.export file."""
    torch.export.save(program(exportable), folder / PROGRAM)


def read_program(exportable: Exportable, folder: Path) -> Runner:
    """Return a function that runs the torch.export file."""
    return torch.export.load(folder / PROGRAM).module()


def write_onnx(exportable: Exportable, folder: Path) -> None:
    """Write an ONNX file for any batch size, with folded batch normalization."""
    import onnx

    # With batch norms and in-place activations the exporter takes 2.4 times as long.
    folded = fold_norms(exportable.module)
    for module in folded.modules():
        if isinstance(module, nn.ReLU | nn.ReLU6 | nn.Hardswish):
            module.inplace = False
    with warnings.catch_warnings(action="ignore"):  # of torch's own code
        written = torch.onnx.export(
            program(replace(exportable, module=folded)),
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
        del node.metadata_props[:]  # stack traces with folder names of this machine
    notes = {
        "title": exportable.title,
        "input": f"images: {float_input(exportable.images.channels)}; {exportable.input_text}",
        "normalisation": "as in training"
        if exportable.normalisation is None
        else str(exportable.normalisation),
        "architecture": exportable.architecture.to_yaml(),
    }
    preprocessing = Preprocessing.of(exportable)
    if preprocessing is not None:
        notes[PREPROCESSING] = preprocessing.model_dump_json()
    if exportable.class_names:
        notes["class_names"] = exportable.class_list()
    onnx.helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / ONNX)


def read_onnx(exportable: Exportable, folder: Path) -> Runner:
    """Return a function that runs the ONNX file with onnxruntime."""
    return run_onnx(folder / ONNX)


def run_onnx(path: Path) -> Runner:
    """Return a function that runs an ONNX file with onnxruntime on one CPU thread."""
    session = onnx_session(path)
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return run


def onnx_session(path: Path, threads: int = 1) -> InferenceSession:
    """Return an onnxruntime session for an ONNX file on `threads` CPU threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
