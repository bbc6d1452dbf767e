"""The int8 file of LiteRT (formerly TensorFlow Lite), int8 in and out, for a batch of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbsearch.data.batches import Split, batches
from mbsearch.export.exportable import Exportable, Runner
from mbsearch.export.int8_network import Int8Network
from mbsearch.export.operators import IMAGE, LOGITS, Fused, Operator
from mbsearch.export.quantization import Quantised

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

LITERT_INT8 = "network_int8.tflite"
_BATCH = 64
_ALIGNMENT = 16
"""Of constants in the file, in bytes: microcontrollers read them where the file lies."""
_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
_BUILTINS = {
    "pad": ("PAD", 2),
    "conv": ("CONV_2D", 3),
    "depthwise": ("DEPTHWISE_CONV_2D", 3),
    "mean": ("MEAN", 2),
    "add": ("ADD", 2),
    "mul": ("MUL", 2),
    "hard_swish": ("HARD_SWISH", 1),
    "logistic": ("LOGISTIC", 2),
    "reshape": ("RESHAPE", 1),
}
"""Name and version of TensorFlow Lite's operator by the kind of ours."""
_FUSED: dict[Fused | None, int] = {None: 0, "unit": 0, "relu": 1, "relu6": 3}
"""Values of the schema's ActivationFunctionType."""


def write_litert_int8(exportable: Exportable, folder: Path) -> None:
    """Write a network's int8 file."""
    (folder / LITERT_INT8).write_bytes(litert_file(exportable.required_int8()))


def read_litert_int8(exportable: Exportable, folder: Path) -> Runner:
    """Return a function that runs the int8 file on normalised images, one at a time."""
    return run_litert_int8((folder / LITERT_INT8).read_bytes())


def run_litert_int8(content: bytes) -> Runner:
    """Return a function that runs an int8 file on normalised images, on one CPU thread."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    (images,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    (scale, zero_point), (step, zero) = images["quantization"], logits["quantization"]

    def run(batch: Tensor) -> Tensor:
        pixels = batch.permute(0, 2, 3, 1).numpy()
        rounded = np.clip(np.rint(pixels / scale) + zero_point, -128, 127).astype(np.int8)
        rows = []
        for image in rounded:
            interpreter.set_tensor(images["index"], image[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(logits["index"]))
        found = (np.concatenate(rows).astype(np.float32) - zero) * step
        return torch.from_numpy(found)

    return run


@torch.inference_mode()
def litert_accuracy(exportable: Exportable, scored: Split, name: str) -> Quantised:
    """Return the accuracies of a network and of its int8 file on a split of this name."""
    runs: tuple[Runner, Runner] = (
        exportable.module,
        run_litert_int8(litert_file(exportable.required_int8())),
    )
    right = [0, 0]
    for images, labels, _ in batches(scored, _BATCH):
        for i, run in enumerate(runs):
            right[i] += int((run(images.contiguous()).argmax(1) == labels).sum())
    return Quantised(right[0] / len(scored), right[1] / len(scored), len(scored), name)


def operator_names(network: Int8Network) -> list[str]:
    """Return the names of TensorFlow Lite's operators that a network needs, without repeats."""
    return list(dict.fromkeys(_BUILTINS[each.kind][0] for each in network.operators))


def litert_file(network: Int8Network) -> bytes:
    """Return the content of a network's int8 file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph = _Graph(network)
    graph.add_map(IMAGE, _image_shape(network))
    for operator in network.operators:
        graph.add_operator(operator)
    subgraph = schema.SubGraphT(
        tensors=graph.tensors,
        inputs=[graph.indices[IMAGE]],
        outputs=[graph.indices[LOGITS]],
        operators=graph.operators,
    )
    codes = [_code(*_BUILTINS[kind]) for kind in graph.kinds]
    model = schema.ModelT(
        version=_SCHEMA_VERSION,
        operatorCodes=codes,
        subgraphs=[subgraph],
        description="mbsearch",
        buffers=graph.buffers,
    )
    builder = flatbuffers.Builder(2**16)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def _image_shape(network: Int8Network) -> tuple[int, ...]:
    """Return the shape (1, H, W, C) of an image."""
    _, channels, height, width = network.examples.shape
    return 1, height, width, channels


def _code(name: str, version: int) -> schema.OperatorCodeT:
    from ai_edge_litert import schema_py_generated as schema

    code = getattr(schema.BuiltinOperator, name)
    return schema.OperatorCodeT(code, version=version, builtinCode=code)


@dataclass(slots=True)
class _Graph:
    """The file's tensors, constants and operators, filled in the order of execution."""

    network: Int8Network
    tensors: list[schema.TensorT] = field(default_factory=list)
    buffers: list[schema.BufferT] = field(default_factory=list)
    operators: list[schema.OperatorT] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    indices: dict[str, int] = field(default_factory=dict)

    def add_map(self, name: str, shape: Sequence[int]) -> int:
        """Add a feature map of shape (1, H, W, C), and return its index."""
        quantisation = self.network.quantisations[name]
        scale = np.array([quantisation.scale], np.float32)
        zero = np.array([quantisation.zero_point], np.int64)
        self.indices[name] = self._add(name, shape, "INT8", _parameters(scale, zero))
        return self.indices[name]

    def add_operator(self, operator: Operator) -> None:
        """Add an operator, its constants and its output."""
        from ai_edge_litert import schema_py_generated as schema

        if operator.kind not in self.kinds:
            self.kinds.append(operator.kind)
        inputs = [self.indices[name] for name in operator.inputs]
        inputs += self._constants(operator)
        channels, height, width = operator.shape
        shape = (1, channels) if operator.kind == "reshape" else (1, height, width, channels)
        options = _options(operator)
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=self.kinds.index(operator.kind),
                inputs=inputs,
                outputs=[self.add_map(operator.name, shape)],
                builtinOptionsType=getattr(
                    schema.BuiltinOptions, type(options).__name__.removesuffix("T"), 0
                ),
                builtinOptions=options,
            )
        )

    def _constants(self, operator: Operator) -> list[int]:
        """Add an operator's constants, and return their indices."""
        match operator.kind:
            case "conv" | "depthwise":
                return self._add_weights(operator)
            case "mean":
                return [self._add_constant(operator.name + ".axes", np.array([1, 2], np.int32))]
            case "pad":
                return [self._add_constant(operator.name + ".sides", self._sides(operator))]
            case "reshape":
                shape = np.array([1, operator.shape.channels], np.int32)
                return [self._add_constant(operator.name + ".shape", shape)]
            case _:
                return []

    def _sides(self, pad: Operator) -> NDArray[np.int32]:
        """Return the rows and columns that a symmetric padding adds, as (4, 2)."""
        _, height, width, _ = self.tensors[self.indices[pad.inputs[0]]].shape
        rows, columns = (pad.shape.height - height) // 2, (pad.shape.width - width) // 2
        return np.array([(0, 0), (rows, rows), (columns, columns), (0, 0)], np.int32)

    def _add_weights(self, operator: Operator) -> list[int]:
        """Add the weights as TensorFlow orders them, and the biases."""
        weights = self.network.weights(operator)
        depthwise = operator.kind == "depthwise"
        order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
        values = weights.values.permute(order).contiguous().numpy()
        scales, bias_scales = weights.scales.numpy(), weights.bias_scales.numpy()
        return [
            self._add_constant(operator.name + ".weight", values, scales, axis),
            self._add_constant(operator.name + ".bias", weights.bias.numpy(), bias_scales),
        ]

    def _add_constant(
        self,
        name: str,
        values: NDArray[np.int8] | NDArray[np.int32],
        scales: NDArray[np.float32] | None = None,
        axis: int = 0,
    ) -> int:
        if scales is None:
            parameters = None
        else:
            parameters = _parameters(scales, np.zeros(len(scales), np.int64), axis)
        return self._add(
            name, values.shape, values.dtype.name.upper(), parameters, values.tobytes()
        )

    def _add(
        self,
        name: str,
        shape: Sequence[int],
        kind: str,
        parameters: schema.QuantizationParametersT | None,
        content: bytes = b"",
    ) -> int:
        """Add a tensor, and return its index. Tensors without content share the first buffer."""
        from ai_edge_litert import schema_py_generated as schema

        if not self.buffers:
            self.buffers.append(schema.BufferT())
        if content:
            self.buffers.append(_aligned_buffer(content))
        self.tensors.append(
            schema.TensorT(
                shape=list(shape),
                type=getattr(schema.TensorType, kind),
                buffer=len(self.buffers) - 1 if content else 0,
                name=name,
                quantization=parameters,
            )
        )
        return len(self.tensors) - 1


def _aligned_buffer(content: bytes) -> schema.BufferT:
    from ai_edge_litert.schema_py_generated import BufferT

    class Aligned(BufferT):  # type: ignore[misc]
        def Pack(self, builder: object) -> object:  # noqa: N802  (the schema's name)
            """Write the buffer so that its content begins at a multiple of `_ALIGNMENT`."""
            builder.Prep(_ALIGNMENT, len(self.data))  # type: ignore[attr-defined]
            return super().Pack(builder)

    return Aligned(data=np.frombuffer(content, np.uint8))


def _parameters(
    scales: NDArray[np.float32], zero_points: NDArray[np.int64], axis: int = 0
) -> schema.QuantizationParametersT:
    from ai_edge_litert.schema_py_generated import QuantizationParametersT

    return QuantizationParametersT(scale=scales, zeroPoint=zero_points, quantizedDimension=axis)


def _options(operator: Operator) -> object:
    """Return the schema's options of an operator; None if it has none."""
    from ai_edge_litert import schema_py_generated as schema

    fused = _FUSED[operator.activation]
    height, width = operator.stride
    convolution = {
        "padding": schema.Padding.SAME if operator.padding == "same" else schema.Padding.VALID,
        "strideH": height,
        "strideW": width,
        "fusedActivationFunction": fused,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
    }
    match operator.kind:
        case "conv":
            return schema.Conv2DOptionsT(**convolution)
        case "depthwise":
            return schema.DepthwiseConv2DOptionsT(**convolution, depthMultiplier=1)
        case "mean":
            return schema.ReducerOptionsT(keepDims=True)
        case "add":
            return schema.AddOptionsT(fusedActivationFunction=fused)
        case "mul":
            return schema.MulOptionsT()
        case "pad":
            return schema.PadOptionsT()
        case "hard_swish":
            return schema.HardSwishOptionsT()
        case "reshape":
            return schema.ReshapeOptionsT(newShape=[1, operator.shape.channels])
        case _:
            return None
