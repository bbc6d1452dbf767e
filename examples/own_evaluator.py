"""Score networks by a training of your own instead of the proxy's.

    python examples/own_evaluator.py [FOLDER]

FOLDER is where the study is kept; `results/own` by default. The same command resumes.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

import mbsearch as mb
from mbsearch.data.sources import load_source
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.study.records import Epoch, Evaluation

SPACE = Path(__file__).with_name("small_space.yaml")
PIXELS = 16


@dataclass(frozen=True)
class OwnTraining:
    """A plain training loop on a thousand of the built-in images.

    It trains to the end at once: the space has one epoch, so that no training is pruned.
    """

    steps: int = 40

    def evaluate(self, task: Task) -> Outcome:
        """Train one network, and return its validation accuracy."""
        started = time.perf_counter()
        source = load_source("embedded", seed=0)
        train, validation = (source.split(kind, PIXELS, 1000) for kind in ("train", "validation"))
        network = mb.build(task.architecture.replace(num_classes=10), seed=task.seed)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        generator = torch.Generator().manual_seed(task.seed)
        for _ in range(self.steps):
            rows = torch.randint(len(train), (64,), generator=generator)
            loss = F.cross_entropy(network(pictures(train.images[rows])), train.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            logits = network(pictures(validation.images))
        accuracy = (logits.argmax(1) == validation.labels).float().mean().item()
        validation_loss = F.cross_entropy(logits, validation.labels).item()
        seconds = time.perf_counter() - started
        return Outcome(
            Evaluation(
                accuracy=accuracy,
                validation_loss=validation_loss,
                seconds=seconds,
                seed=task.seed,
                pixels=PIXELS,
                curve=(Epoch(loss.item(), validation_loss, accuracy, seconds),),
                evaluator="own training",
                recipe={"steps": self.steps},
                device="cpu",
                images=len(validation),
            )
        )


def pictures(images: torch.Tensor) -> torch.Tensor:
    """Return bytes (N, C, H, W) as three float channels around 0."""
    return images.float().div(128).sub(1).expand(-1, 3, -1, -1)


def main(folder: str) -> None:
    """Train six networks; print them by accuracy."""
    frame = mb.run(mb.load(str(SPACE)), trials=6, folder=folder, evaluator=OwnTraining())
    columns = ["trial", "origin", "mult_adds", "accuracy", "seconds"]
    print(frame[columns].sort_values("accuracy", ascending=False).to_string(index=False))


if __name__ == "__main__":  # workers import this file
    main(sys.argv[1] if len(sys.argv) > 1 else "results/own")
