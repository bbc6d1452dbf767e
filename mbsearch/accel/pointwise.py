"""Pointwise convolution as a matrix product, for training on a CPU and for GPUs.

On the small maps of proxy trainings oneDNN's convolutions take up to twice as long as its matrix
products. cuDNN searches for an algorithm before the first convolution of each shape
(docs/throughput.md). The results are those of `nn.Conv2d` up to the order of summation.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PointwiseConv2d(nn.Conv2d):
    """Convolution with a 1 x 1 kernel and stride 1, computed as a matrix product."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """Map (N, C, H, W) to (N, out_channels, H, W)."""
        device = input.device.type
        if not (device == "cuda" or (self.training and device == "cpu")):
            return super().forward(input)
        pixels = F.linear(input.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return pixels.permute(0, 3, 1, 2)
