"""The block types: one class each, whose method `lower` returns the block's layers.

An instance is a stage of an architecture. Its channels are nominal. The architecture applies the
width multiplier and passes the actual widths to `lower`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from mbsearch.space.layers import Activation, Block, Conv, Gate, SqueezeExcite
from mbsearch.space.yaml_source import StrictModel


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("an odd number")
    return kernel


def _odd_or_none(kernel: int) -> int:
    if kernel % 2 == 0 and kernel > 0:
        raise ValueError("an odd number, or 0 for no convolution")
    return kernel


Kernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_odd)]
OptionalKernel = Annotated[int, Field(ge=0, le=31), AfterValidator(_odd_or_none)]
Channels = Annotated[int, Field(ge=1, le=65_536)]
Expansion = Annotated[float, Field(ge=1, le=64, allow_inf_nan=False)]
SqueezeRatio = Annotated[float, Field(ge=0, le=1)]
SqueezeStyle = Literal["mobilenet_v3", "mnasnet"]


def round_channels(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8 and at least 90 % of `channels`.

    This is the rule of MobileNet V2 and its successors (their reference code's ``make_divisible``).
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Stage(StrictModel):
    """Base class for the stages of all block types."""

    channels: Channels
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    stride: Annotated[int, Field(ge=1, le=8)] = 1

    @abstractmethod
    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return one block of the stage.

        Args:
            c_in: channels of the input map.
            c_out: channels of the output map, the width multiplier already applied.
            stride: stride of this block; only the first block has the stage's stride.
            default: the activation, unless the stage sets its own.
        """


def _squeeze(
    ratio: float, style: SqueezeStyle, c_in: int, c_squeezed: int
) -> tuple[SqueezeExcite, ...]:
    """Return the squeeze-excite layer for a map with `c_squeezed` channels; none for ratio 0.

    MobileNetV3 multiplies the ratio by the channels of this map, rounds to a multiple of 8 and
    gates with a hard sigmoid (V3 paper, section 5.3). MnasNet multiplies it by `c_in`, the channels
    of the block's input, rounds to an integer and gates with a sigmoid (MnasNet paper, figure 7).
    """
    if ratio == 0:
        return ()
    gate: Gate
    if style == "mobilenet_v3":
        width, gate = round_channels(c_squeezed * ratio), "hard_sigmoid"
    else:
        width, gate = max(1, round(c_in * ratio)), "sigmoid"
    return (SqueezeExcite("squeeze_excite", width, gate),)


class Standard(Stage):
    """Standard k x k convolution."""

    block: Literal["standard"]
    kernel: Kernel = 3
    activation: Activation | None = None

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: one convolution."""
        k, act = self.kernel, self.activation or default
        return Block((Conv("conv", c_out, (k, k), (stride, stride), activation=act),))


class Separable(Stage):
    """Depthwise separable convolution (V1 paper, section 3.1): depthwise, then pointwise."""

    block: Literal["separable"]
    kernel: Kernel = 3
    activation: Activation | None = None
    squeeze_ratio: SqueezeRatio = 0
    squeeze_style: SqueezeStyle = "mobilenet_v3"
    linear: bool = False

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: depthwise [, squeeze-excite], pointwise.

        The pointwise convolution has no activation if `linear`.
        """
        k, act = self.kernel, self.activation or default
        return Block(
            (
                Conv("depthwise", c_in, (k, k), (stride, stride), depthwise=True, activation=act),
                *_squeeze(self.squeeze_ratio, self.squeeze_style, c_in, c_in),
                Conv("pointwise", c_out, activation=None if self.linear else act),
            )
        )


class InvertedResidual(Stage):
    """Inverted residual with linear bottleneck (V2 paper, section 3.3 and table 1).

    With `shortcut`, the input is added to the output if the stride is 1 and their channels are
    equal.
    """

    block: Literal["inverted_residual"]
    kernel: Kernel = 3
    expansion: Expansion = 6
    activation: Activation | None = None
    squeeze_ratio: SqueezeRatio = 0
    squeeze_style: SqueezeStyle = "mobilenet_v3"
    linear: bool = True
    shortcut: bool = True

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: [expansion,] depthwise [, squeeze-excite], projection."""
        k, act = self.kernel, self.activation or default
        # With expansion 1 there is no expansion layer, and the width is the input's, not rounded.
        wide = round_channels(c_in * self.expansion) if self.expansion > 1 else c_in
        return Block(
            (
                *([Conv("expansion", wide, activation=act)] if self.expansion > 1 else []),
                Conv("depthwise", wide, (k, k), (stride, stride), depthwise=True, activation=act),
                *_squeeze(self.squeeze_ratio, self.squeeze_style, c_in, wide),
                Conv("projection", c_out, activation=None if self.linear else act),
            ),
            shortcut=() if self.shortcut and stride == 1 and c_in == c_out else None,
        )


class ExpandedResidual(Stage):
    """Residual between expansions instead of bottlenecks (V2 paper, figure 6b).

    Its channels are those of the expansion. A stack of these blocks has the layers of a stack of
    inverted residuals, with other shortcuts. The bottleneck's channels are the output's divided by
    `reduction`.
    """

    block: Literal["expanded_residual"]
    kernel: Kernel = 3
    reduction: Annotated[float, Field(ge=1, le=64, allow_inf_nan=False)] = 6
    activation: Activation | None = None

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: depthwise, linear projection, expansion."""
        k, act = self.kernel, self.activation or default
        return Block(
            (
                Conv("depthwise", c_in, (k, k), (stride, stride), depthwise=True, activation=act),
                Conv("projection", round_channels(c_out / self.reduction)),
                Conv("expansion", c_out, activation=act),
            ),
            shortcut=() if stride == 1 and c_in == c_out else None,
        )


class UniversalInvertedBottleneck(Stage):
    """Inverted residual with up to two depthwise convolutions (V4 paper, section 3).

    `start_kernel` is that of the one before the expansion, `kernel` that of the one after it; 0
    leaves it out. Both make the paper's ExtraDW, only the first its ConvNext-like block, none its
    feed-forward network. The stride is that of the later one.
    """

    block: Literal["universal_inverted_bottleneck"]
    start_kernel: OptionalKernel = 0
    kernel: OptionalKernel = 3
    expansion: Expansion = 4
    activation: Activation | None = None

    @model_validator(mode="after")
    def _require_a_kernel_that_strides(self) -> Self:
        if self.stride > 1 and not (self.kernel or self.start_kernel):
            raise ValueError("a kernel or a start_kernel above 0, for the stride")
        return self

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: [depthwise,] expansion [, depthwise], linear projection."""
        first, k, act = self.start_kernel, self.kernel, self.activation or default
        wide = round_channels(c_in * self.expansion)
        early = 1 if k else stride
        start = Conv("start", c_in, (first, first), (early, early), depthwise=True)
        depthwise = Conv("depthwise", wide, (k, k), (stride, stride), True, act)
        return Block(
            (
                *([start] if first else []),
                Conv("expansion", wide, activation=act),
                *([depthwise] if k else []),
                Conv("projection", c_out),
            ),
            shortcut=() if stride == 1 and c_in == c_out else None,
        )


class FusedInvertedResidual(Stage):
    """Inverted residual with one k x k convolution in the place of expansion and depthwise.

    It is the first block of MobileNetV4 and EfficientNetV2 (arXiv 2104.00298, figure 2).
    """

    block: Literal["fused_inverted_residual"]
    kernel: Kernel = 3
    expansion: Expansion = 4
    activation: Activation | None = None

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: expansion by a k x k convolution, linear projection."""
        k, act = self.kernel, self.activation or default
        wide = round_channels(c_in * self.expansion)
        return Block(
            (
                Conv("expansion", wide, (k, k), (stride, stride), activation=act),
                Conv("projection", c_out),
            ),
            shortcut=() if stride == 1 and c_in == c_out else None,
        )


class Bottleneck(Stage):
    """ResNet's residual block: reduce, k x k, expand (arXiv 1512.03385, figure 5).

    The inner width is the output's divided by `reduction`. If the shape changes, the shortcut is a
    1x1 projection. The activation follows the addition.
    """

    block: Literal["bottleneck"]
    kernel: Kernel = 3
    reduction: Annotated[float, Field(ge=1, le=64, allow_inf_nan=False)] = 4
    activation: Activation | None = None
    squeeze_ratio: SqueezeRatio = 0
    squeeze_style: SqueezeStyle = "mobilenet_v3"
    linear: bool = True

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: reduction, k x k convolution, expansion [, squeeze-excite].

        Its output is added to the shortcut.
        """
        k, act = self.kernel, self.activation or default
        narrow = round_channels(c_out / self.reduction)
        keeps_shape = stride == 1 and c_in == c_out
        return Block(
            (
                Conv("reduction", narrow, activation=act),
                Conv("conv", narrow, (k, k), (stride, stride), activation=act),
                Conv("expansion", c_out, activation=None if self.linear else act),
                *_squeeze(self.squeeze_ratio, self.squeeze_style, c_in, c_out),
            ),
            shortcut=() if keeps_shape else (Conv("shortcut", c_out, stride=(stride, stride)),),
            activation=act,
        )


class SpatialSeparable(Stage):
    """Standard convolution factorised into k x 1 and 1 x k (arXiv 1512.00567, section 3.2)."""

    block: Literal["spatial_separable"]
    kernel: Kernel = 3
    activation: Activation | None = None

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return the block: a vertical, then a horizontal convolution.

        Each has the stride along its own direction.
        """
        k, act = self.kernel, self.activation or default
        return Block(
            (
                Conv("vertical", c_out, (k, 1), (stride, 1), activation=act),
                Conv("horizontal", c_out, (1, k), (1, stride), activation=act),
            )
        )


class Identity(Stage):
    """Stage without layers; if the shape changes, one linear 1x1 convolution."""

    block: Literal["identity"]

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Return an empty block, or one linear 1x1 convolution if the shape changes."""
        if stride == 1 and c_in == c_out:
            return Block(())
        return Block((Conv("conv", c_out, stride=(stride, stride)),))


# To add a block type, add its class above and its name here.
AnyStage = (
    Standard
    | Separable
    | InvertedResidual
    | ExpandedResidual
    | UniversalInvertedBottleneck
    | FusedInvertedResidual
    | Bottleneck
    | SpatialSeparable
    | Identity
)

BLOCKS: dict[str, type[AnyStage]] = {
    get_args(model.model_fields["block"].annotation)[0]: model for model in get_args(AnyStage)
}
"""The block types by their names in the YAML."""
