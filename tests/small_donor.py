"""A space with few networks and a small donor, which both train in a second."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from mbsearch.config.families import scaled_reference
from mbsearch.config.specification import SearchSpecification, read_specification
from mbsearch.space.yaml_source import parse_document
from mbsearch.training.donors.files import Donor, find_donor
from mbsearch.training.network import build

SPACE = """name: few
resolution: {choices: [64, 96]}
alpha: {choices: [0.1, 0.2]}
stem: {channels: 32}
stages:
  - {block: separable, channels: 16, linear: true}
  - {block: inverted_residual, channels: 24, repeats: {choices: [1, 2, 3]}, stride: 2,
     expansion: {choices: [3, 6]}, kernel: {choices: [3, 5]}}
  - {block: inverted_residual, channels: 40, repeats: 2, stride: 2, expansion: 6, kernel: 5}
  - {block: inverted_residual, channels: 80, stride: 2, expansion: 6}
  - {block: inverted_residual, channels: 112, expansion: 6, kernel: 5}
  - {block: inverted_residual, channels: 192, stride: 2, expansion: 6, kernel: 5}
  - {block: inverted_residual, channels: 320, expansion: 6}
head: {channels: 320, scaling: up}
baselines:
  - {reference: efficientnet_lite0, alpha: 0.1, resolution: 64}
  - {reference: mobilenet_v1, alpha: 0.1, resolution: 64}
teacher: {steps: 4, batch_size: 8, pixels: 32}
proxy:
  supernet: {steps: 3, batch_size: 8}
  epochs: 1
  train_images: 16
  validation_images: null
  batch_size: 8
  noise_seeds: 1
promotion: {share: 0}
retrain: {epochs: 1, seeds: 1, batch_size: 8}
finals: {minutes: 5, networks: 1, epochs: 1}
"""


def few(**settings: object) -> SearchSpecification:
    """Return the space with some settings changed."""
    return read_specification(parse_document(SPACE, "few.yaml")).with_settings(settings)


def write_donor(folder: Path, seed: int = 0) -> Donor:
    """Write an EfficientNet-Lite0 with alpha 0.25, five classes and distinct channels."""
    network = scaled_reference("efficientnet_lite0", 0.25, 64).replace(num_classes=5)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: tensor * (0.8 + 0.4 * torch.rand(tensor.shape, generator=generator))
        for name, tensor in build(network, seed=seed).state_dict().items()
        if not name.endswith("batches_tracked")
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "donor.safetensors")
    (folder / "donor.yaml").write_text(network.to_yaml())
    return find_donor(str(folder / "donor.safetensors"))
