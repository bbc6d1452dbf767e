"""Architectures: stem, stages, head, width multiplier and resolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from mbsearch.errors import SpecError
from mbsearch.space.blocks import AnyStage, Channels, Kernel, round_channels
from mbsearch.space.image_format import COLOURS, Fit, ImageFormat
from mbsearch.space.layers import (
    Activation,
    Block,
    Conv,
    Linear,
    PlacedLayer,
    Pool,
    Program,
    SqueezeExcite,
    trace,
)
from mbsearch.space.size import Resolution, Size
from mbsearch.space.yaml_nodes import dump_yaml
from mbsearch.space.yaml_source import StrictModel, format_first_error

MOST_CLASSES = 1_000_000
Rounding = Literal["multiple_of_8", "truncate"]


class Input(StrictModel):
    """Images that the network takes, beside their resolution.

    With one channel the images are grey. `fit` is how an image of another aspect ratio becomes the
    resolution (see `ImageFormat`); by default ``stretch`` to a square, ``crop`` to a rectangle.
    """

    channels: Annotated[int, Field(ge=1, le=1024)] = COLOURS
    fit: Fit | None = None

    def at(self, size: Size) -> ImageFormat:
        """Return the format of images at a resolution."""
        fit = self.fit or ("stretch" if size.is_square else "crop")
        return ImageFormat(size, self.channels, fit)


class Stem(StrictModel):
    """First convolution of the network."""

    channels: Channels
    kernel: Kernel = 3
    stride: Annotated[int, Field(ge=1, le=8)] = 2
    activation: Activation | None = None


class Head(StrictModel):
    """The layers after the last stage: [1x1 convolution,] pooling, [hidden layer,] classifier.

    `scaling` is the range of alphas that scale the 1x1 convolution: ``always`` (V3), ``up`` for
    those above 1 (V2 keeps its 1280 channels below), or ``never`` (MnasNet). The hidden layer is
    never scaled (V3). With `hidden_norm` it has batch normalisation and no bias (V4).
    """

    channels: Channels | None = None
    scaling: Literal["always", "up", "never"] = "always"
    hidden: Channels | None = None
    hidden_norm: bool = False
    activation: Activation | None = None


class Architecture(StrictModel):
    """One network: everything that determines its costs and the shapes of its weights.

    `rounding` is the rule by which alpha scales nominal channels: V1's ``max(int(c * alpha), 8)``
    (``truncate``), or V2's (``multiple_of_8``). At alpha 1 nominal channels are not rounded.
    """

    name: str = "network"
    resolution: Resolution = Size.square(224)
    input: Input = Input()
    alpha: Annotated[float, Field(gt=0, le=16, allow_inf_nan=False)] = 1.0
    rounding: Rounding = "multiple_of_8"
    activation: Activation = "relu6"
    num_classes: Annotated[int, Field(ge=1, le=MOST_CLASSES)] = 1000
    stem: Stem
    stages: Annotated[
        tuple[Annotated[AnyStage, Field(discriminator="block")], ...],
        Field(strict=False, min_length=1),  # YAML has lists where the value has a tuple
    ]
    head: Head = Head()

    @property
    def rho(self) -> float:
        """Resolution multiplier of the V1 paper: the side divided by 224."""
        return self.resolution.side / 224

    @property
    def image_format(self) -> ImageFormat:
        """The format of the images that the network takes."""
        return self.input.at(self.resolution)

    def scale(self, channels: int) -> int:
        """Return nominal channels multiplied by alpha and rounded."""
        if self.alpha == 1:
            return channels
        if self.rounding == "truncate":
            return max(int(channels * self.alpha), 8)
        return round_channels(channels * self.alpha)

    def lower(self) -> Program:
        """Return the network as a layer program, without empty blocks."""
        stem = self.stem
        c_in = self.scale(stem.channels)
        act = stem.activation or self.activation
        first = Conv("stem", c_in, (stem.kernel,) * 2, (stem.stride,) * 2, activation=act)
        stages = {}
        for i, stage in enumerate(self.stages):
            c_out = self.scale(stage.channels)
            blocks = _lower_stage(stage, c_in, c_out, self.activation)
            if blocks:
                stages[i] = blocks
            c_in = c_out
        return Program(
            first,
            tuple(stages.values()),
            self._lower_head(),
            tuple(stages),
            self.input.channels,
        )

    def _lower_head(self) -> tuple[Conv | Pool | Linear, ...]:
        head = self.head
        act = head.activation or self.activation
        layers: list[Conv | Pool | Linear] = []
        if head.channels is not None:
            keep = head.scaling == "never" or (head.scaling == "up" and self.alpha < 1)
            width = head.channels if keep else self.scale(head.channels)
            layers.append(Conv("conv", width, activation=act))
        layers.append(Pool("pool"))
        if head.hidden is not None:
            hidden = Conv if head.hidden_norm else Linear
            layers.append(hidden("hidden", head.hidden, activation=act))
        layers.append(Linear("classifier", self.num_classes))
        return tuple(layers)

    def layers(self) -> Iterator[PlacedLayer]:
        """Yield every layer in order, with its shapes at the architecture's own resolution.

        Raises:
            SpecError: a stride meets a map that has no second pixel to step to.
        """
        for placed in trace(self.lower(), self.resolution):
            layer = placed.layer
            if isinstance(layer, Conv) and (
                (layer.stride[0] > 1 and placed.in_shape.height == 1)
                or (layer.stride[1] > 1 and placed.in_shape.width == 1)
            ):
                raise SpecError(
                    f"{self.name}: {placed.name}: stride {max(layer.stride)} leaves no pixels: "
                    f"its input map is {placed.in_shape.height}x{placed.in_shape.width} at "
                    f"resolution {self.resolution}; expected fewer strides or a higher resolution"
                )
            yield placed

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the network (16 hex digits), the same however the network is described.

        It depends on resolution, channels, layers, widths and activations. Names, borders of
        stages and blocks that compute nothing do not change it.
        """
        program = self.lower()
        blocks = "|".join(_signature(block) for stage in program.stages for block in stage)
        ends = "|".join(_layer_signature(layer) for layer in (program.stem, *program.head))
        # Colour is not written, so that fingerprints of earlier versions stay.
        channels = "" if self.input.channels == COLOURS else f"c{self.input.channels}"
        text = f"{self.resolution}{channels}/{ends}/{blocks}"
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def replace(
        self,
        *,
        alpha: float | None = None,
        resolution: Size | int | str | None = None,
        inputs: Input | None = None,
        num_classes: int | None = None,
        name: str | None = None,
    ) -> Architecture:
        """Return the architecture with other values of these fields.

        A resolution is a `Size`, or what describes one: 96, or ``"96x160"``.

        Raises:
            SpecError: a value is out of its range.
        """
        changes: dict[str, Any] = {
            "alpha": None if alpha is None else float(alpha),
            "resolution": resolution,
            "input": inputs,
            "num_classes": num_classes,
            "name": name,
        }
        fields = {key: getattr(self, key) for key in type(self).model_fields}
        fields |= {key: value for key, value in changes.items() if value is not None}
        try:
            return Architecture.model_validate(fields)
        except ValidationError as error:
            raise SpecError(f"{self.name}: {format_first_error(error)}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data in the order of the YAML, including default values."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the text of a YAML file that reads back as this architecture."""
        return dump_yaml(_without_defaults(self))


def _without_defaults(row: BaseModel) -> dict[str, Any]:
    """Return plain data without fields at their default values; `block` comes first."""
    out: dict[str, Any] = {}
    fields = type(row).model_fields
    for key in sorted(fields, key=lambda k: k != "block"):
        value = getattr(row, key)
        if key != "name" and value == fields[key].default and not fields[key].is_required():
            continue
        if isinstance(value, Size):
            value = value.plain
        elif isinstance(value, BaseModel):
            value = _without_defaults(value)
        elif isinstance(value, tuple):
            value = [_without_defaults(item) for item in value]
        out[key] = value
    return out


@lru_cache(maxsize=65536)
def _lower_stage(
    stage: AnyStage, c_in: int, c_out: int, activation: Activation
) -> tuple[Block, ...]:
    """Return a stage's blocks; the first one has the stride and the change of width."""
    first, rest = (
        replace(stage.lower(c, c_out, stride, activation), kind=stage.block)
        for c, stride in ((c_in, stage.stride), (c_out, 1))
    )
    return tuple(b for b in (first, *(rest,) * (stage.repeats - 1)) if b.body or b.shortcut)


@lru_cache(maxsize=65536)
def _signature(block: Block) -> str:
    """Return a text that is equal for blocks with equal layers, whatever their names."""
    body = ",".join(map(_layer_signature, block.body))
    shortcut = block.shortcut
    skip = "-" if shortcut is None else "+" + ",".join(map(_layer_signature, shortcut))
    return f"{body}{skip}{block.activation}"


def _layer_signature(layer: Conv | SqueezeExcite | Pool | Linear) -> str:
    match layer:
        case Conv():
            depth = "d" if layer.depthwise else "c"
            (kh, kw), (sh, sw) = layer.kernel, layer.stride
            return f"{depth}{layer.channels}k{kh}x{kw}s{sh}x{sw}{layer.activation}"
        case SqueezeExcite():
            return f"q{layer.squeezed}{layer.gate}"
        case Pool():
            return "p"
        case Linear():
            return f"l{layer.features}{layer.activation}"
