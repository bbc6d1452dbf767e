"""Generate readable PyTorch source for one network.

Blocks of one type with the same layers share a class. Values that differ between them are
arguments, equal values are constants in the class. Layers keep their names, so that the weights of
the built module fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mbsearch.export.block_classes import ACTIVATIONS, block_classes, conv_call
from mbsearch.export.source_text import Arguments, call, quoted
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Conv, Linear, PlacedLayer, Pool, SqueezeExcite

_CONV_NORM = '''
class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation, then an activation."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: {side} = 1,
        stride: {side} = 1,
        groups: int = 1,
        activation: type[nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        padding = {padding}
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))
'''

_SQUEEZE_EXCITE = '''
class SqueezeExcite(nn.Module):
    """Scale every channel by a gate that sees the mean of all channels."""

    def __init__(self, channels: int, squeezed: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.reduction = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.expansion = nn.Conv2d(squeezed, channels, 1)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * self.gate(self.expansion(self.activation(self.reduction(means))))
'''


def standalone_source(architecture: Architecture, docstring: str, constants: str = "") -> str:
    """Return PyTorch source for a network, which imports only torch.

    Args:
        architecture: the network; its class is called ``Network``.
        docstring: of the file, without quotes.
        constants: lines after the import, as ``MEAN = (0.5, 0.5, 0.5)``.
    """
    program = architecture.lower()
    placed = {layer.name: layer for layer in architecture.layers()}
    classes, calls = block_classes(program.stages, placed)
    convs = [layer.layer for layer in placed.values() if isinstance(layer.layer, Conv)]
    has_pairs = any(len({*c.kernel}) == 2 or len({*c.stride}) == 2 for c in convs)
    parts = [
        f"{quoted(docstring)}\n\nfrom torch import Tensor, nn\n"
        + (f"\n{constants.strip()}\n" if constants else ""),
        _CONV_NORM.format(
            side="int | tuple[int, int]" if has_pairs else "int",
            padding="tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2"
            if has_pairs
            else "kernel // 2",
        ),
    ]
    if any(isinstance(layer.layer, SqueezeExcite) for layer in placed.values()):
        parts.append(_SQUEEZE_EXCITE)
    parts += [*classes, _head(architecture, placed), _network(architecture, placed, calls)]
    return "\n".join(parts)


def _head(architecture: Architecture, placed: dict[str, PlacedLayer]) -> str:
    rows, steps = [], []
    pooled = False
    for layer in architecture.lower().head:
        c_in = placed[f"head.{layer.name}"].in_shape.channels
        match layer:
            case Conv():
                options = f"activation={ACTIVATIONS[layer.activation]}"
                name = f"self.{layer.name}"
                rows += call(f"{name} = ", "ConvNorm", [f"{c_in}", f"{layer.channels}", options], 8)
                x = "x[:, :, None, None]" if pooled else "x"
                steps.append(f"x = {name}({x}){'.flatten(1)' if pooled else ''}")
            case Pool():
                steps.append("x = x.mean((2, 3))")
                pooled = True
            case Linear(name="classifier"):
                rows.append(f"        self.classifier = nn.Linear({c_in}, num_classes)")
                steps.append("return self.classifier(x)")
            case Linear():
                rows.append(f"        self.{layer.name} = nn.Linear({c_in}, {layer.features})")
                rows.append(f"        self.activation = {ACTIVATIONS[layer.activation]}()")
                steps.append(f"x = self.activation(self.{layer.name}(x))")
    return "\n".join(
        [
            "",
            "class Head(nn.Module):",
            '    """What follows the last stage: from a map to one logit a class."""',
            "",
            "    def __init__(self, num_classes: int) -> None:",
            "        super().__init__()",
            *rows,
            "",
            "    def forward(self, x: Tensor) -> Tensor:",
            *(f"        {step}" for step in steps),
            "",
        ]
    )


def _network(
    architecture: Architecture, placed: dict[str, PlacedLayer], calls: Sequence[Sequence[str]]
) -> str:
    program = architecture.lower()
    stem, channels = program.stem, str(program.in_channels)
    _, (c_in, c_out, *options) = conv_call([stem], channels, str(stem.channels), Arguments())
    return "\n".join(
        [
            "",
            "class Network(nn.Module):",
            f'    """Images (N, {channels}, H, W) to logits (N, num_classes).',
            "",
            f"    The sizes of maps below are those at {architecture.resolution} pixels.",
            '    """',
            "",
            f"    def __init__(self, num_classes: int = {architecture.num_classes}) -> None:",
            "        super().__init__()",
            *call("self.stem = ", "ConvNorm", [c_in, c_out, *options], 8),
            *_stages(placed, calls),
            "        self.head = Head(num_classes)",
            "",
            "    def forward(self, x: Tensor) -> Tensor:",
            "        return self.head(self.stages(self.stem(x)))",
            "",
        ]
    )


def _stages(placed: dict[str, PlacedLayer], calls: Sequence[Sequence[str]]) -> Iterator[str]:
    if not calls:
        yield "        self.stages = nn.Sequential()"
        return
    outs = {name.split(".")[1]: p.out_shape for name, p in placed.items() if name[:7] == "stages."}
    yield "        self.stages = nn.Sequential("
    for i, blocks in enumerate(calls):
        yield f"            nn.Sequential(  # to {' x '.join(map(str, outs[str(i)]))}"
        for block in blocks:
            name, _, arguments = block.removesuffix(")").partition("(")
            yield from call("", name, arguments.split(", "), 16, ",")
        yield "            ),"
    yield "        )"
