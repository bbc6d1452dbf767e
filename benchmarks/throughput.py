"""Compare images per second of the training loop with a plain loop and the compute bound.

python benchmarks/throughput.py [--alphas 0.35 0.5 1.0] [--pixels 56] [--batch 64] [--jobs 2]

MobileNetV2, one thread, median of several rounds. The plain loop is that of a tutorial:
torchvision's network, images decoded beforehand, one transform per image, a DataLoader, NCHW, AdamW
with its defaults, `loss.item()` every step. It alternates with mbsearch's loop epoch by epoch, each
in its own process, so that a temporarily slower machine affects both. The bound is the speed of a
forward and a backward pass if all Mult-Adds ran at the rate of a large float32 matrix product. One
worker is timed in CPU seconds, which other processes disturb little. Several workers (`--jobs`) are
timed in wall seconds on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.models import mobilenet_v2
from torchvision.transforms import v2

from mbsearch.config.recipe import Recipe
from mbsearch.cost import measure
from mbsearch.data.batches import Split
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import load_reference
from mbsearch.training.devices import device_name, prepare_worker
from mbsearch.training.loop import Training, evaluate
from mbsearch.training.network import build

CLASSES = 10
BATCHES = 10
ROUNDS = 5
TURNS = 12
WORKER_TURNS = 5
CPU = torch.device("cpu")


def images(count: int, pixels: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, pixels, pixels), generator=generator, dtype=torch.uint8)
    y = torch.randint(0, CLASSES, (count,), generator=generator)
    return Split(x, y, (0.5,) * 3, (0.25,) * 3, CLASSES)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """The images as PIL images, each transformed when it is read."""

    def __init__(self, split: Split, pixels: int) -> None:
        self.pictures = [v2.functional.to_pil_image(image) for image in split.images]
        self.labels = split.labels.tolist()
        self.transform = v2.Compose(
            [
                v2.RandomCrop(pixels, padding=round(0.08 * pixels), padding_mode="reflect"),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def ours(alpha: float) -> Architecture:
    return load_reference("mobilenet_v2").replace(alpha=alpha)


def plain_epoch(alpha: float, pixels: int, batch: int) -> Callable[[], None]:
    network = mobilenet_v2(num_classes=CLASSES, width_mult=alpha)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.004)
    pictures = Pictures(images(BATCHES * batch, pixels), pixels)
    loader = DataLoader(pictures, batch_size=batch, shuffle=True)

    def epoch() -> None:
        total = 0.0
        for x, y in loader:
            loss = F.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item()

    return epoch


def our_epoch(alpha: float, pixels: int, batch: int) -> Callable[[], object]:
    network = build(ours(alpha), num_classes=CLASSES, zero_init_residual=True)
    split = images(BATCHES * batch, pixels)
    recipe = Recipe(epochs=ROUNDS + 1, batch_size=batch)
    # Two images to validate on: the cost of an epoch's end, but not of a validation split.
    return Training(network, recipe, split, images(2, pixels), CPU, seed=0, flip=True).run_epoch


def rate(work: Callable[[], object], amount: float, clock: Callable[[], float]) -> float:
    """Return the amount per second: median of several rounds after a warm-up."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        started = clock()
        work()
        seconds.append(clock() - started)
    return amount / median(seconds)


def gemm_rate() -> float:
    """Return the Mult-Adds per second of a large matrix product in float32."""
    side = 1024
    a, b = torch.randn(side, side), torch.randn(side, side)
    return rate(lambda: a @ b, side**3, time.process_time)


def plain_process(alpha: float, pixels: int, batch: int, asked: Connection) -> None:
    torch.set_num_threads(1)
    _time_epochs(plain_epoch(alpha, pixels, batch), asked)


def our_process(alpha: float, pixels: int, batch: int, asked: Connection) -> None:
    prepare_worker()
    _time_epochs(our_epoch(alpha, pixels, batch), asked)


def _time_epochs(epoch: Callable[[], object], asked: Connection) -> None:
    """Send the CPU seconds of an epoch at every request, after a warm-up."""
    epoch()
    while asked.recv():
        started = time.process_time()
        epoch()
        asked.send(time.process_time() - started)


def loops_in_turns(
    spawn: SpawnContext, alpha: float, pixels: int, batch: int
) -> tuple[list[float], list[float]]:
    """Return the images per second of the plain loop and of mbsearch's, epoch by epoch."""
    processes, ends = [], []
    for target in (plain_process, our_process):
        end, asked = spawn.Pipe()
        processes.append(spawn.Process(target=target, args=(alpha, pixels, batch, asked)))
        processes[-1].start()
        ends.append(end)
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(TURNS):
        for end, found in zip(ends, rates, strict=True):
            end.send(True)
            found.append(BATCHES * batch / end.recv())
    for end, process in zip(ends, processes, strict=True):
        end.send(False)
        process.join()
    return rates


def worker_rate(alpha: float, pixels: int, batch: int) -> float:
    return rate(our_epoch(alpha, pixels, batch), BATCHES * batch, time.perf_counter)


def scoring_rate(network: nn.Module, pixels: int) -> float:
    split = images(1000, pixels)
    return rate(lambda: evaluate(network, split, CPU), len(split), time.process_time)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.35, 0.5, 1.0])
    parser.add_argument("--pixels", type=int, default=56)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=0, help="also time this many workers at once")
    options = parser.parse_args()
    pixels, batch = options.pixels, options.batch
    spawn = multiprocessing.get_context("spawn")
    prepare_worker()
    gemm = gemm_rate()
    print(f"torch {torch.__version__}, {device_name(CPU)}, {torch.get_num_threads()} thread")
    print(f"matrix product {2 * gemm / 1e9:.0f} GFLOP/s; {pixels} px, batch {batch}")
    print("alpha  plain   ours  ratio  bound  of bound  scoring   (images per second)")
    for alpha in options.alphas:
        plain, our = loops_in_turns(spawn, alpha, pixels, batch)
        # A backward pass is two products of the forward's size.
        bound = gemm / (3 * measure(ours(alpha).replace(resolution=pixels))["mult_adds"])
        scoring = scoring_rate(build(ours(alpha), num_classes=CLASSES), pixels)
        print(
            f"{alpha:5} {median(plain):6.0f} {median(our):6.0f} "
            f"{median(b / a for a, b in zip(plain, our, strict=True)):6.2f} {bound:6.0f} "
            f"{median(our) / bound:9.0%} {scoring:8.0f}",
            flush=True,
        )
    if options.jobs:
        for alpha in options.alphas:
            alone, together = [], []
            for _ in range(WORKER_TURNS):
                alone.append(_workers_rate(spawn, 1, alpha, pixels, batch))
                together.append(_workers_rate(spawn, options.jobs, alpha, pixels, batch))
            times = median(b / a for a, b in zip(alone, together, strict=True))
            print(
                f"alpha {alpha}: 1 worker {median(alone):.0f}, {options.jobs} workers "
                f"{median(together):.0f} images a wall second, {times:.2f} times",
                flush=True,
            )


def _workers_rate(spawn: SpawnContext, jobs: int, alpha: float, pixels: int, batch: int) -> float:
    with spawn.Pool(jobs, initializer=prepare_worker) as pool:
        return sum(pool.starmap(worker_rate, [(alpha, pixels, batch)] * jobs, chunksize=1))


if __name__ == "__main__":
    main()
