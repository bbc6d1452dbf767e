"""The zeros with which TensorFlow Lite's convolutions pad as torch's do.

Torch pads ``kernel // 2`` on both sides. TensorFlow's SAME pads as much as is missing, the smaller
half first, so that with a stride it can begin elsewhere. Then the kernel gains rows and columns of
zeros until SAME begins where torch does, or a PAD operator comes first: whichever needs fewer
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from mbsearch.space.layers import Conv, Shape


@dataclass(frozen=True, slots=True)
class SamePadding:
    """Zeros that a convolution needs: rows and columns of its kernel, or a padded input.

    `padded` is the shape of the PAD operator's output, None without that operator.
    """

    rows: int = 0
    columns: int = 0
    padded: Shape | None = None


_NO_ZEROS = SamePadding()


def same_padding(conv: Conv, x: Shape) -> SamePadding:
    """Return the zeros that a convolution of a map `x` needs."""
    if conv.stride == (1, 1):
        return _NO_ZEROS
    (height, width), (down, right) = conv.kernel, conv.stride
    rows, columns = _zeros(x.height, height, down), _zeros(x.width, width, right)
    added = (height + rows) * (width + columns) - height * width
    filters = 1 if conv.depthwise else x.channels
    padded = Shape(x.channels, x.height + height // 2 * 2, x.width + width // 2 * 2)
    if added * filters * conv.channels <= padded.elements:
        return SamePadding(rows, columns)
    return SamePadding(padded=padded)


def _zeros(side: int, kernel: int, stride: int) -> int:
    """Return the number of zeros after the kernel with which SAME begins where torch does."""
    last = (-(-side // stride) - 1) * stride  # centre of the last window
    missing = max(last + kernel - side, 0)
    return 0 if missing // 2 == kernel // 2 else side - last - 1
