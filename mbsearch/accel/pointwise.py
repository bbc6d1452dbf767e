"""Pointwise convolution as the matrix product that it is, for training on a CPU and for GPUs.

On the small maps of proxies oneDNN's convolutions take up to twice as long as its matrix products,
and cuDNN's take their time before the first of each shape (docs/throughput.md). The results are
those of `nn.Conv2d`, up to the order of summation.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PointwiseConv2d(nn.Conv2d):
    """Convolution of kernel 1 and stride 1, without bias."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map (N, C, H, W) to (N, channels, H, W)."""
        device = input.device.type
        if not (device == "cuda" or (self.training and device == "cpu")):
            return super().forward(input)
        pixels = F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return pixels.permute(0, 3, 1, 2)
