"""Express a network in timm's notation, with strings such as ``ir_r2_k3_s2_e6_c24``.

timm (github.com/huggingface/pytorch-image-models) builds networks from them with its classes
EfficientNet and MobileNetV3. Widths in the strings have alpha applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from math import prod
from typing import NamedTuple

from mbsearch.errors import ExportError
from mbsearch.export.block_classes import ACTIVATIONS
from mbsearch.export.source_text import quoted
from mbsearch.space.architecture import Architecture
from mbsearch.space.blocks import round_channels
from mbsearch.space.image_format import COLOURS
from mbsearch.space.layers import (
    Activation,
    Block,
    Conv,
    Linear,
    PlacedLayer,
    Pool,
    Program,
    Shape,
    SqueezeExcite,
)

_TOKENS: dict[Activation, str] = {"relu": "nre", "relu6": "nr6", "hard_swish": "nhs"}
_DIGITS = 12
_PIXEL = Shape(1, 1, 1)
_MOST_STRIDE = 32  # of timm's MobileNetV3, and the default of its EfficientNet


def timm_source(
    architecture: Architecture, docstring: str, weights: str, constants: str = ""
) -> str:
    """Return a Python file: ``network()`` builds the network with timm, ``load()`` reads weights.

    Args:
        architecture: the network.
        docstring: of the file, without quotes.
        weights: name of the file of weights beside it.
        constants: lines after the imports, as ``MEAN = (0.5, 0.5, 0.5)``.

    Raises:
        ExportError: timm cannot express the network; the message names the reason.
    """
    program = architecture.lower()
    hidden = [layer.out_shape(_PIXEL).channels for layer in _hidden(program)]
    normed = any(isinstance(layer, Conv) for layer in _hidden(program))
    family, module = ("MobileNetV3", "mobilenetv3") if hidden else ("EfficientNet", "efficientnet")
    stages = timm_strings(architecture)
    arguments = {
        "num_classes": "num_classes",
        "num_features": str(hidden[0] if hidden else _head_width(program)),
        "stem_size": str(program.stem.channels),
        "act_layer": ACTIVATIONS[program.stem.activation],
        "round_chs_fn": "int",
    }
    if program.in_channels != COLOURS:
        arguments["in_chans"] = str(program.in_channels)
    if not hidden:
        arguments["stem_kernel_size"] = str(program.stem.kernel[0])
        # Beyond its output stride timm dilates in place of striding.
        arguments["output_stride"] = str(max(_MOST_STRIDE, _stride(program)))
    if normed:
        arguments |= {"head_bias": "False", "head_norm": "True"}
    if any(string.startswith("uir") for stage in stages for string in stage):
        arguments["layer_scale_init_value"] = "None"
    names, first = [family, "decode_arch_def"], ""
    gate = _gate(program)
    if gate is not None:
        first = "from functools import partial\n"
        names.insert(1, "SqueezeExcite")
        arguments["se_layer"] = (
            f'partial(SqueezeExcite, gate_layer="{gate}", force_act_layer=nn.ReLU)'
        )
    options = "".join(f"        {key}={value},\n" for key, value in arguments.items())
    rows = "".join(f"    [{', '.join(map(_quoted, stage))}],\n" for stage in stages)
    return (
        f"{quoted(docstring)}\n\n{first}from pathlib import Path\n\n"
        "from safetensors.torch import load_file\n"
        f"from timm.models.{module} import {', '.join(names)}\n"
        f"from torch import nn\n\n{constants}"
        f'WEIGHTS = Path(__file__).with_name("{weights}")\n'
        "# Widths are final: alpha is applied, and round_chs_fn changes nothing.\n"
        f"ARCHITECTURE = [\n{rows}]\n\n\n"
        f"def network(num_classes: int = {architecture.num_classes}) -> nn.Module:\n"
        '    """The network with fresh weights."""\n'
        f"    return {family}(\n"
        f"        decode_arch_def(ARCHITECTURE),\n{options}    )\n\n\n"
        "def load(weights: Path | str = WEIGHTS) -> nn.Module:\n"
        '    """The network with the weights of a file, in evaluation mode."""\n'
        "    loaded = network()\n"
        "    loaded.load_state_dict(load_file(weights))\n"
        "    return loaded.eval()\n"
    )


def _quoted(text: str) -> str:
    return f'"{text}"'


def timm_strings(architecture: Architecture) -> list[list[str]]:
    """Return the strings of each stage in the format of timm's ``decode_arch_def``.

    Raises:
        ExportError: timm cannot express the network; the message names the reason.
    """
    program = architecture.lower()
    placed = {layer.name: layer for layer in architecture.layers()}
    default = program.stem.activation
    hidden = _hidden(program)
    convs = [x for x in program.head if isinstance(x, Conv) and x not in hidden]
    _require_ends(program, default)
    _gate(program)
    stages = [
        _strings(f"stages.{i}", blocks, placed, default, from_expansion=bool(hidden))
        for i, blocks in enumerate(program.stages)
    ]
    if hidden:  # MobileNetV3's head convolution is its last stage
        stages += [[_conv_notation("head", conv, default).text()] for conv in convs]
    if not stages:
        raise ExportError("timm has no network without stages")
    return stages


def _require_ends(program: Program, default: Activation | None) -> None:
    stem, head = program.stem, program.head
    hidden = _hidden(program)
    if stem.stride != (2, 2) or (hidden and stem.kernel != (3, 3)):
        kernel, stride = stem.kernel[0], stem.stride[0]
        raise ExportError(f"timm has no stem of kernel {kernel} and stride {stride} for this head")
    if hidden and _stride(program) > _MOST_STRIDE:
        raise ExportError(
            f"timm has no network with a hidden layer that strides by {_stride(program)}"
        )
    for layer in head[:-1]:
        own = layer.activation if isinstance(layer, Conv | Linear) else default
        if own != default and not (hidden and isinstance(layer, Conv) and layer not in hidden):
            raise ExportError(f"timm has one activation for stem and head, not {default} and {own}")


def _hidden(program: Program) -> list[Conv | Linear]:
    """Return the layers between pooling and classifier."""
    pool = next(i for i, layer in enumerate(program.head) if isinstance(layer, Pool))
    return [x for x in program.head[pool + 1 : -1] if isinstance(x, Conv | Linear)]


def _head_width(program: Program) -> int:
    return next((layer.channels for layer in program.head if isinstance(layer, Conv)), 0)


def _stride(program: Program) -> int:
    convs = (x for stage in program.stages for b in stage for x in b.body if isinstance(x, Conv))
    return program.stem.stride[0] * prod(conv.stride[0] for conv in convs)


def _gate(program: Program) -> str | None:
    gates = {
        layer.gate
        for stage in program.stages
        for block in stage
        for layer in block.body
        if isinstance(layer, SqueezeExcite)
    }
    if len(gates) > 1:
        raise ExportError("timm has one gate for every squeeze-excite of a network, not two")
    return next(iter(gates), None)


class _Near(NamedTuple):
    """A number to round, and a test whether timm gets the right width from a rounded value."""

    value: float
    is_right: Callable[[float], bool]


class _Notation(NamedTuple):
    """One block in timm's notation."""

    kind: str
    kernel: int
    channels: int
    activation: str
    expansion: _Near | None = None
    squeeze: SqueezeExcite | None = None
    squeeze_input: int = 0
    no_skip: bool | None = None
    start_kernel: int | None = None

    def text(
        self, stride: int = 1, e: str = "", se: str = "", end: str = "", repeats: int = 1
    ) -> str:
        """Return the string for `repeats` consecutive blocks."""
        start = "" if self.start_kernel is None else f"_a{self.start_kernel}"
        shape = (
            f"{start}_k{self.kernel}_s{stride}{e and '_e'}{e}_c{self.channels}{se and '_se'}{se}"
        )
        return f"{self.kind}_r{repeats}{shape}{self.activation}{end}"


def _strings(
    name: str,
    blocks: Sequence[Block],
    placed: dict[str, PlacedLayer],
    default: Activation | None,
    *,
    from_expansion: bool,
) -> list[str]:
    """Return the strings of one stage, one for each run of equal blocks."""
    words = []
    for j, block in enumerate(blocks):
        c_in = placed[f"{name}.{j}.{block.body[0].name}"].in_shape.channels
        words.append(_notation(f"{name}.{j}", block, c_in, default))
    convs = [layer for layer in blocks[0].body if isinstance(layer, Conv)]
    stride = max(_side(name, conv.stride) for conv in convs)
    if stride not in (1, 2):
        raise ExportError(f"timm cannot express {name}: a stride of {stride}")
    skips = {word.no_skip for word in words} - {None}
    expansions = _decimals([word.expansion for word in words])
    squeezes = _decimals(
        [
            _squeeze(word, 1.0 if from_expansion else float(e or 1))
            for word, e in zip(words, expansions, strict=True)
        ]
    )
    # timm applies a stage's stride, and shortcuts, only to blocks that can have them.
    ends = ["_noskip" if word.no_skip or skips == {True} else "" for word in words]
    strings = [
        (word._replace(expansion=None, squeeze=None, squeeze_input=0, no_skip=None), e, se, end)
        for word, e, se, end in zip(words, expansions, squeezes, ends, strict=True)
    ]
    return [
        word.text(stride, e, se, end, len(list(group)))
        for (word, e, se, end), group in groupby(strings)
    ]


def _notation(where: str, block: Block, c_in: int, default: Activation | None) -> _Notation:
    convs = [layer for layer in block.body if isinstance(layer, Conv)]
    squeezes = [layer for layer in block.body if isinstance(layer, SqueezeExcite)]
    shape = ["depthwise" if c.depthwise else "x".join(map(str, c.kernel)) for c in convs]
    has_shortcut = block.shortcut is not None
    if len(convs) == 1 and not (has_shortcut or squeezes or convs[0].depthwise):
        return _conv_notation(where, convs[0], default)
    if shape[-2:] == ["1x1", "1x1"] or shape == ["depthwise", "1x1", "depthwise", "1x1"]:
        return _universal_notation(where, block, convs, c_in, default)
    act, last = convs[0].activation, convs[-1]
    hidden_agree = all(conv.activation == act for conv in convs[:-1])
    if act is None or not hidden_agree or last.activation not in (act, None) or block.shortcut:
        raise _lacks(where, block)
    keeps_shape = last.channels == c_in and all(c.stride == (1, 1) for c in convs)
    no_skip = not has_shortcut if keeps_shape else None
    token = "" if act == default else f"_{_TOKENS[act]}"
    squeeze = squeezes[0] if squeezes else None
    if shape == ["depthwise", "1x1"] and not (last.activation and has_shortcut):
        kind, no_skip = ("dsa", None) if last.activation else ("ds", no_skip)
        kernel = _side(where, convs[0].kernel)
        return _Notation(kind, kernel, last.channels, token, None, squeeze, c_in, no_skip)
    if shape == ["1x1", "depthwise", "1x1"] and last.activation is None:
        wide = convs[0].channels
        e = _Near(wide / c_in, lambda e: round_channels(c_in * e) == wide)
        kernel = _side(where, convs[1].kernel)
        return _Notation("ir", kernel, last.channels, token, e, squeeze, wide, no_skip)
    if len(convs) == 2 and not convs[0].depthwise and shape[1] == "1x1" and not squeezes:
        wide = convs[0].channels
        e = _Near(wide / c_in, lambda e: round_channels(c_in * e) == wide)
        kernel = _side(where, convs[0].kernel)
        if last.activation is None:
            return _Notation("er", kernel, last.channels, token, e, None, wide, no_skip)
    raise _lacks(where, block)


def _universal_notation(
    where: str, block: Block, convs: Sequence[Conv], c_in: int, default: Activation | None
) -> _Notation:
    """Return the `uir` notation of a universal inverted bottleneck that `ir` cannot express."""
    start = convs[0] if convs[0].depthwise else None
    expansion, *middle, last = convs[1:] if start else convs
    act, wide = expansion.activation, expansion.channels
    linear = last.activation is None and (start is None or start.activation is None)
    if not linear or act is None or block.shortcut or any(c.activation != act for c in middle):
        raise _lacks(where, block)
    keeps_shape = last.channels == c_in and all(c.stride == (1, 1) for c in convs)
    return _Notation(
        "uir",
        _side(where, middle[0].kernel) if middle else 0,
        last.channels,
        "" if act == default else f"_{_TOKENS[act]}",
        _Near(wide / c_in, lambda e: round_channels(c_in * e) == wide),
        no_skip=block.shortcut is None if keeps_shape else None,
        start_kernel=_side(where, start.kernel) if start else 0,
    )


def _conv_notation(where: str, conv: Conv, default: Activation | None) -> _Notation:
    if conv.activation is None:
        raise ExportError(f"timm cannot express {where}: a convolution without activation")
    token = "" if conv.activation == default else f"_{_TOKENS[conv.activation]}"
    return _Notation("cn", _side(where, conv.kernel), conv.channels, token)


def _side(where: str, pair: tuple[int, int]) -> int:
    if pair[0] != pair[1]:
        raise ExportError(f"timm cannot express {where}: a kernel of {pair[0]}x{pair[1]}")
    return pair[0]


def _squeeze(word: _Notation, expansion: float) -> _Near | None:
    """Return the squeeze-excite ratio from which timm computes the block's squeezed width."""
    if word.squeeze is None:
        return None
    width, channels = word.squeeze.squeezed, word.squeeze_input
    return _Near(
        width / channels * expansion, lambda se: round(channels * (se / expansion)) == width
    )


def _decimals(numbers: Sequence[_Near | None]) -> list[str]:
    """Return the shortest decimal that fits all numbers, or else a separate one for each."""
    near = [number for number in numbers if number is not None]
    texts = sorted(
        {f"{n.value:.{digits}f}" for n in near for digits in range(_DIGITS)},
        key=lambda text: (len(text), text),
    )

    def shortest(those: Sequence[_Near]) -> str | None:
        fits = (t for t in texts if float(t) > 0 and all(n.is_right(float(t)) for n in those))
        return next(fits, None)

    common = shortest(near)
    return [("" if n is None else common or shortest([n]) or "") for n in numbers]


def _lacks(where: str, block: Block) -> ExportError:
    kind = block.kind.replace("_", " ")
    return ExportError(f"timm cannot express {where}: this kind of {kind} block")
