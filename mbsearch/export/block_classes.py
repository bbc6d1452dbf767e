"""Generate source of block classes: one class for blocks of one type with equal layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from mbsearch.export.source_text import DEFAULTS, ENDS, Arguments, call, parameters
from mbsearch.space.layers import Activation, Block, Conv, Gate, PlacedLayer, SqueezeExcite

ACTIVATIONS: dict[Activation | None, str] = {
    None: "nn.Identity",
    "relu": "nn.ReLU",
    "relu6": "nn.ReLU6",
    "hard_swish": "nn.Hardswish",
}
_GATES: dict[Gate, str] = {"sigmoid": "nn.Sigmoid", "hard_sigmoid": "nn.Hardsigmoid"}


class _Member(NamedTuple):
    """A block, and its number of input channels."""

    c_in: int
    block: Block


def block_classes(
    stages: Sequence[Sequence[Block]], placed: dict[str, PlacedLayer]
) -> tuple[list[str], list[list[str]]]:
    """Return the source of all classes, and each block's constructor call by stage."""
    members = [
        [_Member(placed[f"stages.{i}.{j}.{b.body[0].name}"].in_shape.channels, b)
         for j, b in enumerate(stage)]
        for i, stage in enumerate(stages)
    ]  # fmt: skip
    flat = [member for stage in members for member in stage]
    names = _class_names([member.block for member in flat])
    classes: list[str] = []
    calls: dict[int, str] = {}
    for pattern, name in names.items():
        group = [member for member in flat if _pattern(member.block) == pattern]
        text, made = _block_class(name, group)
        classes.append(text)
        calls |= {id(m): c for m, c in zip(group, made, strict=True)}
    return classes, [[calls[id(member)] for member in stage] for stage in members]


Pattern = tuple[str, tuple[str, ...], bool]


def _pattern(block: Block) -> Pattern:
    """Return a block's type, its layers' names, and whether its shortcut has layers."""
    return block.kind, tuple(layer.name for layer in block.body), bool(block.shortcut)


def _class_names(blocks: Sequence[Block]) -> dict[Pattern, str]:
    """Return a class name per pattern; a block type's most frequent one has the plain name.

    The names of others tell the difference: ``InvertedResidualWithoutExpansion``.
    """
    counts = Counter(map(_pattern, blocks))
    names: dict[Pattern, str] = {}
    for kind, group in groupby(sorted(counts, key=lambda p: p[0]), key=lambda p: p[0]):
        plain, *others = sorted(group, key=lambda p: -counts[p])
        names[plain] = _camel(kind)
        for other in others:
            extra = [n for n in other[1] if n not in plain[1]]
            lacking = [n for n in plain[1] if n not in other[1]]
            names[other] = _camel(kind) + "".join(
                [*(f"With{_camel(n)}" for n in extra), *(f"Without{_camel(n)}" for n in lacking)]
            )
            if other[2] != plain[2]:
                names[other] += "Projected" if other[2] else "Unprojected"
    return {pattern: names[pattern] for pattern in counts}


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _block_class(name: str, members: Sequence[_Member]) -> tuple[str, list[str]]:
    """Return a class's source, and the constructor call for each of its blocks."""
    blocks = [member.block for member in members]
    arguments = Arguments()
    c = arguments.add("c_in", [str(member.c_in) for member in members])
    arguments.add("c_out", [str(_c_out(block)) for block in blocks])
    *_, last = (i for i, layer in enumerate(blocks[0].body) if isinstance(layer, Conv))
    rows, steps = [], []
    for i, layer in enumerate(blocks[0].body):
        column = [block.body[i] for block in blocks]
        if isinstance(layer, SqueezeExcite):
            squeezes = [layer for layer in column if isinstance(layer, SqueezeExcite)]
            row = _squeeze_call(squeezes, c, arguments)
        else:
            convs = [layer for layer in column if isinstance(layer, Conv)]
            c_before, c = c, _c_after(convs, c, i == last, arguments)
            row = conv_call(convs, c_before, c, arguments)
        rows += call(f"self.{layer.name} = ", *row, indent=8)
        steps.append(layer.name)
    sums = _sum(blocks, arguments, rows)
    body = [f"        y = self.{steps[0]}(x)", *(f"        y = self.{s}(y)" for s in steps[1:])]
    if sums == "y":
        body[-1] = body[-1].replace("y = ", "return ", 1)
    else:
        body.append(f"        return {sums}")
    head = parameters(
        [
            (n, arguments.types[n], DEFAULTS.get(n))
            for n in sorted(arguments.columns, key=lambda n: (n not in ENDS, n in DEFAULTS))
        ],
        positional=len(ENDS),
    )
    title = ", ".join(s.replace("_", " ") for s in steps).capitalize()
    if sums != "y":
        title += "; a shortcut where `residual`" if "residual" in sums else "; a shortcut"
    text = [
        "",
        f"class {name}(nn.Module):",
        f'    """{title}."""',
        "",
        *head,
        "        super().__init__()",
        *rows,
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        *body,
        "",
    ]
    calls = [_constructor(name, arguments, i) for i in range(len(members))]
    return "\n".join(text), calls


def _c_out(block: Block) -> int:
    *_, last = (layer for layer in block.body if isinstance(layer, Conv))
    return last.channels


def _c_after(convs: Sequence[Conv], c: str, is_last: bool, arguments: Arguments) -> str:
    if convs[0].depthwise:
        return c
    if is_last:
        return "c_out"
    column = [str(conv.channels) for conv in convs]
    for known, values in arguments.columns.items():
        if values == tuple(column) and known not in ENDS and known.startswith("c_"):
            return known
    return arguments.add(f"c_{convs[0].name}", column)


def _squeeze_call(
    squeezes: Sequence[SqueezeExcite], c: str, arguments: Arguments
) -> tuple[str, list[str]]:
    squeezed = arguments.add("squeezed", [str(s.squeezed) for s in squeezes])
    gate = arguments.value("gate", [_GATES[s.gate] for s in squeezes], "type[nn.Module]")
    return "SqueezeExcite", [c, squeezed, gate]


def conv_call(
    convs: Sequence[Conv], c_in: str, c_out: str, arguments: Arguments
) -> tuple[str, list[str]]:
    """Return the function name and the arguments of a call that makes a convolution layer."""
    activations = [ACTIVATIONS[conv.activation] for conv in convs]
    given = {
        "kernel": _sides([conv.kernel for conv in convs], "kernel", arguments),
        "stride": _sides([conv.stride for conv in convs], "stride", arguments),
        "groups": c_in if convs[0].depthwise else "1",
        "activation": arguments.value("activation", activations, "type[nn.Module]"),
    }
    defaults = {"kernel": "1", "stride": "1", "groups": "1", "activation": "nn.Identity"}
    options = [f"{key}={text}" for key, text in given.items() if text != defaults[key]]
    return "ConvNorm", [c_in, c_out, *options]


def _sides(pairs: Sequence[tuple[int, int]], name: str, arguments: Arguments) -> str:
    """Return the source of a kernel or stride: a number if it is square, otherwise a pair."""
    for form, axis, holds in (
        ("{}", 0, all(h == w for h, w in pairs)),
        ("({}, 1)", 0, all(w == 1 for _, w in pairs)),
        ("(1, {})", 1, all(h == 1 for h, _ in pairs)),
    ):
        if holds:
            return form.format(arguments.value(name, [str(pair[axis]) for pair in pairs]))
    return arguments.value(name, [str(pair) for pair in pairs], "tuple[int, int]")


def _sum(blocks: Sequence[Block], arguments: Arguments, rows: list[str]) -> str:
    """Return source that adds the shortcut; append the layers that it needs to `rows`."""
    if blocks[0].shortcut:
        skip = "x"
        for i, conv in enumerate(blocks[0].shortcut):
            convs = [b.shortcut[i] for b in blocks if b.shortcut]
            c_in = "c_in" if i == 0 else "c_out"
            rows += call(
                f"self.{conv.name} = ", *conv_call(convs, c_in, "c_out", arguments), indent=8
            )
            skip = f"self.{conv.name}({skip})"
        total = f"y + {skip}"
    elif all(block.shortcut is None for block in blocks):
        return "y"
    elif all(block.shortcut is not None for block in blocks):
        total = "y + x"
    else:
        column = [str(block.shortcut is not None) for block in blocks]
        rows.append(f"        self.residual = {arguments.add('residual', column, 'bool')}")
        total = "y + x if self.residual else y"
    after = [ACTIVATIONS[block.activation] for block in blocks]
    if set(after) != {"nn.Identity"}:
        source = arguments.value("activation", after, "type[nn.Module]")
        rows.append(f"        self.activation = {source}()")
        total = f"self.activation({total})"
    return total


def _constructor(name: str, arguments: Arguments, i: int) -> str:
    given = [arguments.columns[end][i] for end in ENDS]
    for key, column in arguments.columns.items():
        if key not in ENDS and column[i] != DEFAULTS.get(key):
            given.append(f"{key}={column[i]}")
    return f"{name}({', '.join(given)})"
