"""The block types: one frozen class each, and `lower` is the only description of a block.

Every class is one row of an architecture's stage table. Channels are nominal there; the width
multiplier is applied by the architecture, which hands the real widths to `lower`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from mbsearch.space.layers import Activation, Block, Conv, Gate, SqueezeExcite
from mbsearch.space.yaml_source import StrictModel


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("an odd number")
    return kernel


Kernel = Annotated[int, Field(ge=1, le=31), AfterValidator(_odd)]
Channels = Annotated[int, Field(ge=1)]
Expansion = Annotated[float, Field(ge=1, le=64, allow_inf_nan=False)]
SqueezeRatio = Annotated[float, Field(ge=0, le=1)]
SqueezeStyle = Literal["mobilenet_v3", "mnasnet"]


def round_channels(channels: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, at least `divisor`, never under 90 % of `channels`.

    The rule of MobileNet V2 and its successors (their reference code's ``make_divisible``).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class Stage(StrictModel):
    """What the stages of every block type have in common."""

    channels: Channels
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    stride: Annotated[int, Field(ge=1, le=8)] = 1

    @abstractmethod
    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Lower one block of the stage.

        Args:
            c_in: channels of the input map.
            c_out: channels of the output map, the width multiplier already applied.
            stride: of this block; only the first block of a stage has the stage's stride.
            default: the architecture's activation, where the stage names none.
        """


def _squeeze(
    ratio: float, style: SqueezeStyle, c_in: int, c_squeezed: int
) -> tuple[SqueezeExcite, ...]:
    """Squeeze-excite of `c_squeezed` channels inside a block with `c_in` input channels.

    MobileNetV3 takes the ratio of the squeezed map itself, rounds to a multiple of 8 and gates
    by a hard sigmoid (V3 paper, section 5.3). MnasNet takes the ratio of the block's input,
    rounds to the nearest integer and gates by a sigmoid (MnasNet paper, figure 7).
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
    """Standard k x k convolution: the block that the MobileNets replace."""

    block: Literal["standard"]
    kernel: Kernel = 3
    activation: Activation | None = None

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """One convolution."""
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
        """Depthwise [, squeeze-excite], pointwise (without activation when `linear`)."""
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

    The shortcut joins the narrow ends, and only where the stride is 1 and the channels agree.
    """

    block: Literal["inverted_residual"]
    kernel: Kernel = 3
    expansion: Expansion = 6
    activation: Activation | None = None
    squeeze_ratio: SqueezeRatio = 0
    squeeze_style: SqueezeStyle = "mobilenet_v3"
    linear: bool = True

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """[Expansion,] depthwise [, squeeze-excite], projection (linear unless switched off)."""
        k, act = self.kernel, self.activation or default
        # Expansion 1 has no expansion layer, and its width is the input's, whatever its rounding.
        wide = round_channels(c_in * self.expansion) if self.expansion > 1 else c_in
        return Block(
            (
                *([Conv("expansion", wide, activation=act)] if self.expansion > 1 else []),
                Conv("depthwise", wide, (k, k), (stride, stride), depthwise=True, activation=act),
                *_squeeze(self.squeeze_ratio, self.squeeze_style, c_in, wide),
                Conv("projection", c_out, activation=None if self.linear else act),
            ),
            shortcut=() if stride == 1 and c_in == c_out else None,
        )


class Bottleneck(Stage):
    """ResNet's residual block: reduce, k x k, expand (arXiv 1512.03385, figure 5).

    The inner width is the output's divided by `reduction`; where the shape changes the shortcut
    is a 1x1 projection, and the activation follows the addition.
    """

    block: Literal["bottleneck"]
    kernel: Kernel = 3
    reduction: Annotated[float, Field(ge=1, le=64, allow_inf_nan=False)] = 4
    activation: Activation | None = None
    squeeze_ratio: SqueezeRatio = 0
    squeeze_style: SqueezeStyle = "mobilenet_v3"
    linear: bool = True

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Reduction, k x k convolution, expansion [, squeeze-excite]; added to the shortcut."""
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
    """Standard convolution split in space: k x 1, then 1 x k (arXiv 1512.00567, section 3.2)."""

    block: Literal["spatial_separable"]
    kernel: Kernel = 3
    activation: Activation | None = None

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """Vertical, then horizontal convolution, each with its own half of the stride."""
        k, act = self.kernel, self.activation or default
        return Block(
            (
                Conv("vertical", c_out, (k, 1), (stride, 1), activation=act),
                Conv("horizontal", c_out, (1, k), (1, stride), activation=act),
            )
        )


class Identity(Stage):
    """Nothing at all; where the shape changes, a linear 1x1 convolution that changes it."""

    block: Literal["identity"]

    def lower(self, c_in: int, c_out: int, stride: int, default: Activation) -> Block:
        """An empty block, or one linear 1x1 convolution."""
        if stride == 1 and c_in == c_out:
            return Block(())
        return Block((Conv("conv", c_out, stride=(stride, stride)),))


# To add a block type, add its class above and its name here.
AnyStage = Standard | Separable | InvertedResidual | Bottleneck | SpatialSeparable | Identity

BLOCKS: dict[str, type[AnyStage]] = {
    get_args(model.model_fields["block"].annotation)[0]: model for model in get_args(AnyStage)
}
"""The block types by their names in the YAML."""
