"""Compare networks as backbones of a detector: torchvision's SSDLite on generated scenes.

    python benchmarks/detection.py docs/winner.yaml --steps 1500 --pixels 128

The competitors are MobileNet V1 and V2, at the width whose backbone has about equal Mult-Adds on
images of this size. Each network trains from fresh weights on noise with one to three rectangles,
discs and crosses. The score is COCO's mean average precision on other scenes (pycocotools). The V1
paper has the same comparison (arXiv 1704.04861, table 13).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import Conv2dNormActivation

import mbsearch as mb
from mbsearch.cost import layer_costs
from mbsearch.space.library import load_reference

CLASSES = ("background", "rectangle", "disc", "cross")
WIDTH, BATCH_SIZE, LEARNING_RATE = 64, 16, 1.2e-2
ALPHAS = [hundredths / 100 for hundredths in range(10, 201)]
Target = dict[str, Tensor]
Scene = tuple[Tensor, Target]


def scene(rng: np.random.Generator, pixels: int) -> Scene:
    """Draw an image (3, pixels, pixels) on [0, 1] with one to three objects, and their boxes."""
    image = rng.normal(0.5, 0.1, (3, pixels, pixels)).astype(np.float32)
    boxes, labels = [], []
    for _ in range(rng.integers(1, 4)):
        width, height = rng.integers(pixels // 4, pixels // 2, 2)
        left, top = rng.integers(0, pixels - width), rng.integers(0, pixels - height)
        rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        label = int(rng.integers(1, len(CLASSES)))
        shape = {
            "rectangle": np.ones((height, width), bool),
            "disc": rows**2 + columns**2 <= 1,
            "cross": (np.abs(rows) < 0.3) | (np.abs(columns) < 0.3),
        }[CLASSES[label]]
        colour = rng.choice([0.1, 0.9], (3, 1))
        image[:, top : top + height, left : left + width][:, shape] = colour
        boxes.append([left, top, left + width, top + height])
        labels.append(label)
    target = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}
    return torch.from_numpy(image).clamp(0, 1), target


class Pyramid(nn.Module):
    """Feature maps of a network from stride 8 on, each projected to `WIDTH` channels.

    The maps of a MobileNet V2 are narrow and linear; SSDLite expects them wide and activated.
    """

    def __init__(self, architecture: mb.Architecture) -> None:
        super().__init__()
        self.features = mb.build(architecture, features_only=True)
        described = zip(self.features.strides, self.features.channels, strict=True)
        self.laterals = nn.ModuleDict(
            {
                f"stride {stride}": Conv2dNormActivation(
                    channels, WIDTH, 1, activation_layer=nn.ReLU6
                )
                for stride, channels in described
                if stride >= 8
            }
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.features(images)
        return {name: lateral(maps[name]) for name, lateral in self.laterals.items()}


def detector(architecture: mb.Architecture, pixels: int) -> SSD:
    """Build SSDLite on the feature maps of a network."""
    torch.manual_seed(0)
    backbone = Pyramid(architecture)
    channels = [WIDTH] * len(backbone.laterals)
    anchors = DefaultBoxGenerator([[2]] * len(channels), min_ratio=15, max_ratio=60)
    each = anchors.num_anchors_per_location()
    head = SSDLiteHead(channels, each, len(CLASSES), partial(nn.BatchNorm2d))
    return SSD(
        backbone, anchors, (pixels, pixels), len(CLASSES), head=head, image_mean=[0.5] * 3,
        image_std=[0.25] * 3, detections_per_img=20,
    )  # fmt: skip


def train(network: SSD, steps: int, pixels: int) -> None:
    """Train on new scenes in every step, the same ones for every network."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    network.train()
    for _ in range(steps):
        images, targets = zip(*(scene(rng, pixels) for _ in range(BATCH_SIZE)), strict=True)
        losses = network(list(images), list(targets))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        scheduler.step()


def detect(network: SSD, scenes: list[Scene]) -> list[Target]:
    """Return the detected boxes, labels and scores of every scene."""
    network.eval()
    with torch.inference_mode():
        return [network([image])[0] for image, _ in scenes]


def average_precision(scenes: list[Scene], found: list[Target]) -> tuple[float, float]:
    """Return COCO's mAP over IoU from 0.50 to 0.95, and at 0.50."""
    truth: list[dict[str, Any]] = [
        {"image_id": i, "category_id": int(label), "bbox": as_coco(box), "iscrowd": 0}
        for i, (_, target) in enumerate(scenes)
        for box, label in zip(target["boxes"], target["labels"], strict=True)
    ]
    for number, annotation in enumerate(truth, start=1):
        _, _, width, height = annotation["bbox"]
        annotation |= {"id": number, "area": width * height}
    detections = [
        {"image_id": i, "category_id": int(label), "bbox": as_coco(box), "score": float(score)}
        for i, each in enumerate(found)
        for box, label, score in zip(each["boxes"], each["labels"], each["scores"], strict=True)
    ]
    if not detections:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # COCO prints
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in range(len(scenes))],
            "categories": [{"id": label} for label in range(1, len(CLASSES))],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def as_coco(box: Tensor) -> list[float]:
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]


def backbone_mult_adds(architecture: mb.Architecture) -> int:
    layers = layer_costs(architecture)
    return sum(layer.mult_adds for layer in layers if not layer.name.startswith("head."))


def of_equal_cost(family: str, network: mb.Architecture) -> mb.Architecture:
    """Scale a reference's width to a backbone of about equal Mult-Adds at equal resolution."""
    reference, target = load_reference(family), backbone_mult_adds(network)
    widths = [reference.replace(alpha=a, resolution=network.resolution) for a in ALPHAS]
    nearest = min(widths, key=lambda each: abs(backbone_mult_adds(each) - target))
    return nearest.replace(name=f"{family} at alpha {nearest.alpha:g}")


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Print a line per network and return the mAP of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", help="an architecture: a file, or the name of a reference")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tested", type=int, default=200)
    parser.add_argument("--pixels", type=int, default=128)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    unseen = [scene(rng, options.pixels) for _ in range(options.tested)]
    given = mb.load(options.network)
    if not isinstance(given, mb.Architecture):
        raise SystemExit(f"{options.network}: expected an architecture, got a search space")
    given = given.replace(resolution=options.pixels)
    scores = {}
    for network in (given, *(of_equal_cost(f, given) for f in ("mobilenet_v1", "mobilenet_v2"))):
        started = time.process_time()
        ssd = detector(network, options.pixels)
        train(ssd, options.steps, options.pixels)
        scores[network.name], at_half = average_precision(unseen, detect(ssd, unseen))
        print(
            f"{network.name}: mAP {scores[network.name]:.3f}, at IoU 0.5 {at_half:.3f}; backbone "
            f"{backbone_mult_adds(network) / 1e6:.1f} M Mult-Adds; "
            f"{time.process_time() - started:.0f} CPU s",
            flush=True,
        )
    return scores


if __name__ == "__main__":
    main()
