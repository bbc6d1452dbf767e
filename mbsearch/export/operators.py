"""A network as operators of TensorFlow Lite: float weights, batch normalisation folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbsearch.cost.same_padding import same_padding
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Linear, PlacedLayer, Pool, Shape, SqueezeExcite
from mbsearch.training.folding import fold_norms
from mbsearch.training.network import Residual

Kind = Literal[
    "pad", "conv", "depthwise", "mean", "add", "mul", "hard_swish", "logistic", "reshape"
]
Fused = Literal["relu", "relu6", "unit"]
"""Activation within an operator; "unit" clips to [0, 1], which int8 values of that range do."""
IMAGE = "image"
"""Name of the input."""
LOGITS = "logits"
"""Name of the output."""
_FUSED: dict[type[nn.Module], Fused] = {nn.ReLU: "relu", nn.ReLU6: "relu6"}


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator whose output has the same name.

    `inputs` are the names of other operators, or `IMAGE`. `shape` is that of the output. `weight`
    has torch's layout. `padding` is TensorFlow's, of a convolution.
    """

    kind: Kind
    name: str
    inputs: tuple[str, ...]
    shape: Shape
    weight: Tensor | None = None
    bias: Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    padding: Literal["same", "valid"] = "same"
    activation: Fused | None = None

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the output for inputs (N, C, H, W), in float."""
        return _activate(self._linear(*inputs), self.activation)

    def _linear(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return the output before the activation."""
        match self.kind:
            case "conv" | "depthwise":
                return self._convolve(x)
            case "pad":
                return F.pad(x, _before_and_after(x.shape[2:], self.shape[1:]))
            case "mean":
                return x.mean((2, 3), keepdim=True)
            case "add":
                return x + others[0]
            case "mul":
                return x * others[0]
            case "hard_swish":
                return F.hardswish(x)
            case "logistic":
                return x.sigmoid()
            case "reshape":
                return x.flatten(1)
            case _:
                assert_never(self.kind)

    def _convolve(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        if self.padding == "same":
            needed = [
                max((out - 1) * stride + kernel, side)
                for out, stride, kernel, side in zip(
                    self.shape[1:], self.stride, self.weight.shape[2:], x.shape[2:], strict=True
                )
            ]
            x = F.pad(x, _before_and_after(x.shape[2:], needed))
        groups = x.shape[1] if self.kind == "depthwise" else 1
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=groups)


def _before_and_after(sides: Sequence[int], padded: Sequence[int]) -> list[int]:
    """Return torch's padding that makes maps of `sides` as large as `padded`."""
    (height, width), (tall, wide) = sides, padded
    rows, columns = tall - height, wide - width
    return [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]


def _activate(x: Tensor, activation: Fused | None) -> Tensor:
    match activation:
        case "relu":
            return F.relu(x)
        case "relu6":
            return F.relu6(x)
        case "unit":
            return x.clamp(0, 1)
        case None:
            return x
        case _:
            assert_never(activation)


def run_operators(
    operators: Sequence[Operator], images: Tensor, observe: Callable[[str, Tensor], Tensor]
) -> Tensor:
    """Return the last operator's output for images (N, C, H, W).

    Each value is replaced by what `observe` returns for its name and itself.
    """
    last_use = {name: i for i, each in enumerate(operators) for name in each.inputs}
    values = {IMAGE: observe(IMAGE, images)}
    for i, operator in enumerate(operators):
        inputs = [values[name] for name in operator.inputs]
        values[operator.name] = observe(operator.name, operator(*inputs))
        for name in operator.inputs:
            if last_use[name] == i:
                values.pop(name, None)
    return values[operators[-1].name]


def operators_of(architecture: Architecture, module: nn.Module) -> list[Operator]:
    """Return a network's operators in the order of execution; the last gives the logits."""
    folded = fold_norms(module)
    operators: list[Operator] = []
    outputs = {-1: IMAGE}
    for index, placed in enumerate(architecture.layers()):
        operators += _layer(placed, folded.get_submodule(placed.name), outputs[placed.source])
        if placed.added is not None:
            block = folded.get_submodule(placed.name.rpartition(".")[0])
            assert isinstance(block, Residual)
            operators += _with_activation(
                Operator(
                    "add",
                    placed.name + ".sum",
                    (operators[-1].name, outputs[placed.added]),
                    placed.out_shape,
                ),
                block.activation,
            )
        outputs[index] = operators[-1].name
    last = operators[-1]
    return [*operators, Operator("reshape", LOGITS, (last.name,), last.shape)]


def _layer(placed: PlacedLayer, module: nn.Module, source: str) -> Iterator[Operator]:
    """Yield the operators of a layer."""
    match placed.layer:
        case Conv():
            conv = module.get_submodule("conv")
            assert isinstance(conv, nn.Conv2d)
            activation = module.get_submodule("activation")
            kind: Kind = "depthwise" if placed.layer.depthwise else "conv"
            whole = Operator(
                kind,
                placed.name,
                (source,),
                placed.out_shape,
                conv.weight,
                conv.bias,
                placed.layer.stride,
            )
            for operator in _padded(whole, placed.layer, placed.in_shape):
                last = operator.kind == kind
                yield from _with_activation(operator, activation) if last else [operator]
        case SqueezeExcite():
            yield from _squeeze_excite(placed, module, source)
        case Pool():
            yield Operator("mean", placed.name, (source,), placed.out_shape)
        case Linear():
            assert isinstance(module, nn.Linear)
            weight = module.weight[:, :, None, None]
            dense = Operator("conv", placed.name, (source,), placed.out_shape, weight, module.bias)
            yield from _with_activation(dense, module.get_submodule("activation"))
        case _:
            assert_never(placed.layer)


def _with_activation(operator: Operator, activation: nn.Module) -> Iterator[Operator]:
    """Yield an operator with a fused activation, or followed by one."""
    if isinstance(activation, nn.Hardswish):
        yield operator
        name = operator.name + ".hard_swish"
        yield Operator("hard_swish", name, (operator.name,), operator.shape)
    else:
        yield replace(operator, activation=_FUSED.get(type(activation)))


def _squeeze_excite(placed: PlacedLayer, module: nn.Module, source: str) -> Iterator[Operator]:
    """Yield the operators of a squeeze-excite layer.

    A hard sigmoid is part of the expansion: clip(x / 6 + 1 / 2, 0, 1).
    """
    reduction, expansion = module.get_submodule("reduction"), module.get_submodule("expansion")
    assert isinstance(reduction, nn.Conv2d)
    assert isinstance(expansion, nn.Conv2d)
    assert expansion.bias is not None
    name, layer = placed.name, placed.layer
    assert isinstance(layer, SqueezeExcite)
    pooled, squeezed = Shape(placed.in_shape.channels, 1, 1), Shape(layer.squeezed, 1, 1)
    mean = Operator("mean", name + ".mean", (source,), pooled)
    narrow = Operator(
        "conv",
        name + ".reduction",
        (mean.name,),
        squeezed,
        reduction.weight,
        reduction.bias,
        activation="relu",
    )
    wide = Operator(
        "conv", name + ".expansion", (narrow.name,), pooled, expansion.weight, expansion.bias
    )
    yield from (mean, narrow)
    if layer.gate == "hard_sigmoid":
        gate = replace(
            wide, weight=expansion.weight / 6, bias=expansion.bias / 6 + 0.5, activation="unit"
        )
    else:
        yield wide
        gate = Operator("logistic", name + ".gate", (wide.name,), pooled)
    yield gate
    yield Operator("mul", name, (source, gate.name), placed.out_shape)


def _padded(conv: Operator, layer: Conv, x: Shape) -> Iterator[Operator]:
    """Yield a convolution with torch's padding as one or two with TensorFlow's."""
    assert conv.weight is not None
    zeros = same_padding(layer, x)
    if zeros.padded is None:
        yield replace(conv, weight=F.pad(conv.weight, [0, zeros.columns, 0, zeros.rows]))
    else:
        pad = Operator("pad", conv.name + ".padded", conv.inputs, zeros.padded)
        yield pad
        yield replace(conv, inputs=(pad.name,), padding="valid")
