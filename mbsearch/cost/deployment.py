"""Memory of a network on a microcontroller: flash for its int8 file, RAM for its activations.

The runtime is TensorFlow Lite Micro. It reads the weights where the file lies in flash, and plans
one arena in RAM for all feature maps, of one byte a value. Batch normalisation, ReLU and ReLU6 are
part of their convolution. Additions, hard swish and squeeze-excite are operators of their own, and
no operator works in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.cost.layer_counts import LayerCounts
from mbsearch.cost.same_padding import same_padding
from mbsearch.space.layers import Conv, Linear, PlacedLayer, Pool, SqueezeExcite

_BIAS_BYTES = 4
_QUANTIZATION_BYTES = 2 * (4 + 8)
"""Of one channel: scale and zero point of weights and bias."""
_FILE_BYTES = 820
"""Of a file: tables, image and logits."""
_OPERATOR_BYTES = 215
"""Of one operator: name, shape and tables of its output."""
_WEIGHTS_BYTES = 175
"""Of the weights and biases of one operator: their names, shapes and tables."""
_ALIGNMENT = 16


def flash_bytes(layers: Sequence[LayerCounts]) -> int:
    """Return the size of the int8 LiteRT file: weights, biases, quantisation and structure.

    Weights are quantised by output channel. The constants are those of the files that
    `mbsearch export --formats litert-int8` writes.
    """
    return _FILE_BYTES + sum(
        layer.weights
        + _zero_weights(layer.placed)
        + _channels(layer.placed) * (_BIAS_BYTES + _QUANTIZATION_BYTES)
        + _operators(layer.placed) * _OPERATOR_BYTES
        + _weighted_operators(layer.placed) * _WEIGHTS_BYTES
        for layer in layers
    )


def ram_bytes(layers: Sequence[LayerCounts]) -> int:
    """Return the size of the arena that the runtime plans for the int8 activations.

    The runtime's own structures come on top of it.
    """
    return plan_arena(_tensors([layer.placed for layer in layers]))


def _zero_weights(placed: PlacedLayer) -> int:
    """Return the number of zeros that enlarge a kernel."""
    if not isinstance(placed.layer, Conv):
        return 0
    (height, width), zeros = placed.layer.kernel, same_padding(placed.layer, placed.in_shape)
    added = (height + zeros.rows) * (width + zeros.columns) - height * width
    filters = 1 if placed.layer.depthwise else placed.in_shape.channels
    return added * filters * placed.out_shape.channels


def _channels(placed: PlacedLayer) -> int:
    """Return the number of output channels with a bias and a scale of their own."""
    match placed.layer:
        case SqueezeExcite():
            return placed.layer.squeezed + placed.in_shape.channels
        case Pool():
            return 0
        case Conv() | Linear():
            return placed.out_shape.channels


def _operators(placed: PlacedLayer) -> int:
    """Return the number of operators for a layer and the addition after it, if any."""
    added = (placed.added is not None) + (placed.activation == "hard_swish")
    match placed.layer:
        case SqueezeExcite():
            # Mean, reduction, expansion, product. A hard sigmoid is part of the expansion.
            count = 4 + (placed.layer.gate == "sigmoid")
        case Pool():
            count = 1
        case Conv() | Linear():
            count = 1 + (placed.layer.activation == "hard_swish")
    return count + _is_padded(placed) + added


def _is_padded(placed: PlacedLayer) -> bool:
    """Whether an operator pads the layer's input."""
    layer = placed.layer
    return isinstance(layer, Conv) and same_padding(layer, placed.in_shape).padded is not None


def _weighted_operators(placed: PlacedLayer) -> int:
    """Return the number of operators with weights."""
    match placed.layer:
        case SqueezeExcite():
            return 2
        case Pool():
            return 0
        case Conv() | Linear():
            return 1


@dataclass(slots=True)
class Tensor:
    """A feature map of `size` bytes, alive from operator `first` to operator `last`."""

    size: int
    first: int
    last: int


def _tensors(layers: Sequence[PlacedLayer]) -> list[Tensor]:
    """Return the feature maps of a network with their lifetimes, in the order of execution."""
    image = Tensor(_aligned(layers[0].in_shape.elements), 0, 0)
    tensors, outputs = [image], {-1: image}
    operator = -1

    def run(size: int, *inputs: Tensor) -> Tensor:
        """Append an operator with its output; its inputs live until then."""
        nonlocal operator
        operator += 1
        for tensor in inputs:
            tensor.last = operator
        tensors.append(Tensor(_aligned(size), operator, operator))
        return tensors[-1]

    for index, placed in enumerate(layers):
        x, size = outputs[placed.source], placed.out_shape.elements
        if isinstance(placed.layer, SqueezeExcite):
            x = run(size, x, run(placed.in_shape.channels, x))
        else:
            if isinstance(placed.layer, Conv):
                padded = same_padding(placed.layer, placed.in_shape).padded
                x = x if padded is None else run(padded.elements, x)
            x = run(size, x)
            if isinstance(placed.layer, Conv | Linear) and placed.layer.activation == "hard_swish":
                x = run(size, x)
        if placed.added is not None:
            x = run(size, x, outputs[placed.added])
            if placed.activation == "hard_swish":
                x = run(size, x)
        outputs[index] = x
    return tensors


def plan_arena(tensors: Sequence[Tensor]) -> int:
    """Return the size in bytes of an arena where tensors alive at the same time do not overlap.

    The rule is that of TensorFlow Lite Micro's greedy planner (Pisarchyk and Lee, arXiv 2001.03288,
    section 4.3): from the largest tensor on, and of equal ones the later first, each takes the
    lowest gap between those placed before it.
    """
    alive: dict[int, list[tuple[int, int]]] = {}
    total = 0
    order = sorted(range(len(tensors)), key=lambda i: (-tensors[i].size, -i))
    for tensor in (tensors[i] for i in order):
        operators = range(tensor.first, tensor.last + 1)
        offset = 0
        for start, end in sorted({gap for i in operators for gap in alive.get(i, ())}):
            if start - offset >= tensor.size:
                break
            offset = max(offset, end)
        for i in operators:
            alive.setdefault(i, []).append((offset, offset + tensor.size))
        total = max(total, offset + tensor.size)
    return total


def _aligned(count: int) -> int:
    return -(-count // _ALIGNMENT) * _ALIGNMENT
