"""Train torchvision's MobileNetV2 at a budget: a plain script without mbsearch's search.

    python benchmarks/plain_torchvision.py --data FOLDER --budget 20M --seeds 3 --out plain.json

The size is the published pair of width and resolution that uses most of the budget. If none uses
80 % of it, the size is the widest network at 96 px. The recipe is AdamW with a cosine schedule,
flips and random crops. The learning rate is the best of three by validation accuracy after a third
of the epochs. The network is then trained on training and validation images, once per seed, and
scored on the test images. One thread. mbsearch counts the Mult-Adds and reads the images, so both
sides use the same images.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2

from mbsearch.config.families import scaled_reference
from mbsearch.cost import measure
from mbsearch.cost.units import parse_quantity
from mbsearch.data.batches import Split
from mbsearch.data.sources import load_source

PUBLISHED = [(a, r) for a in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4) for r in (96, 128, 160, 192, 224)]
RATES = (0.001, 0.003, 0.01)
BATCH = 64


def chosen_size(budget: int, classes: int) -> tuple[float, int]:
    """Return width multiplier and resolution within a budget of Mult-Adds."""

    def cost(pair: tuple[float, int]) -> int:
        return measure(scaled_reference("mobilenet_v2", *pair, classes))["mult_adds"]

    within = [pair for pair in PUBLISHED if 0.8 * budget <= cost(pair) <= budget]
    if within:
        return max(within, key=cost)
    widths = [(hundredths / 100, 96) for hundredths in range(5, 141)]
    return max((pair for pair in widths if cost(pair) <= budget), key=cost)


def as_input(images: Tensor, split: Split) -> Tensor:
    """Return normalised images with three channels."""
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (split.mean, split.std))
    return ((images.float() / 255 - mean) / std).expand(-1, 3, -1, -1)


def augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Crop each padded image at a random position and mirror half of them."""
    side = images.shape[-1]
    pad = round(0.08 * side)
    padded = F.pad(images.float(), (pad,) * 4, mode="reflect")
    places = rng.integers(0, 2 * pad + 1, (len(images), 2))
    crops = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(padded, places, strict=True)]
    return torch.stack([c.flip(-1) if rng.random() < 0.5 else c for c in crops])


def train(split: Split, alpha: float, epochs: int, rate: float, seed: int) -> nn.Module:
    """Train a network from fresh weights."""
    torch.manual_seed(seed)
    network: nn.Module = mobilenet_v2(num_classes=split.num_classes, width_mult=alpha)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    steps = epochs * (len(split) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(split)))
        for rows in torch.split(order[: len(split) // BATCH * BATCH], BATCH):
            logits = network(as_input(augmented(split.images[rows], rng), split))
            loss = F.cross_entropy(logits, split.labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()
    return network


@torch.inference_mode()
def correct(network: nn.Module, split: Split) -> np.ndarray:
    """Return whether each image is classified correctly."""
    found = [
        network(as_input(images, split)).argmax(1) for images in torch.split(split.images, 250)
    ]
    return (torch.cat(found) == split.labels).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of images, or embedded")
    parser.add_argument(
        "--budget", required=True, type=parse_quantity, help="Mult-Adds, for example 20M"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the resolution")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON file with the predictions")
    args = parser.parse_args()
    torch.set_num_threads(1)
    source, started = load_source(args.data, seed=0), time.process_time()
    alpha, resolution = chosen_size(args.budget, source.num_classes)
    pixels = round(resolution * args.scale)
    training, validation, test = (source.split(k, pixels) for k in ("train", "validation", "test"))
    short = -(-args.epochs // 3)
    scores = {r: correct(train(training, alpha, short, r, 0), validation).mean() for r in RATES}
    rate, whole = max(scores, key=scores.__getitem__), source.seen(pixels)
    found = [correct(train(whole, alpha, args.epochs, rate, s), test) for s in range(args.seeds)]
    name, seconds = f"torchvision MobileNetV2 {alpha:g}/{resolution}", time.process_time() - started
    print(f"{name}, rate {rate:g}: test {np.mean(found):.4f}, {seconds:.0f} CPU s")
    row = {"name": name, "alpha": alpha, "resolution": resolution, "rate": rate}
    row |= {"accuracies": [float(each.mean()) for each in found], "cpu_seconds": seconds}
    row["correct"] = [base64.b64encode(np.packbits(each).tobytes()).decode() for each in found]
    args.out.write_text(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
