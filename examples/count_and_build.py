"""Count a network exactly, build it in PyTorch, and draw a network of a space.

python examples/count_and_build.py
"""

from __future__ import annotations

import torch

import mbsearch as mb


def main() -> None:
    """Print the cost and the output of MobileNetV2, and of a random network of `v2.yaml`."""
    reference = mb.load("mobilenet_v2").replace(alpha=0.35, resolution=96, num_classes=10)
    candidate = mb.load("v2.yaml").sample(seed=0).replace(num_classes=10)
    for network in (reference, candidate):
        cost = mb.measure(network)  # arithmetic on the layers: torch is not used
        print(f"{network.name}: {cost['mult_adds']:,} Mult-Adds, {cost['params']:,} parameters")
        module = mb.build(network).eval()
        with torch.inference_mode():
            print(tuple(module(torch.zeros(1, *network.image_format.shape)).shape))


if __name__ == "__main__":
    main()
