"""Compare ways to inherit a donor's weights by test accuracy.

    python benchmarks/inheritance.py PHOTOS

Each row is one alternative: networks of EfficientNet-Lite0's shape are trained with the recipe of
finals on training images and scored on test images. Completed rows are kept in --out; the same
command resumes. At the end it prints the table of docs/experiments/inheritance.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev

import torch

from mbsearch.config.budgets import Budget
from mbsearch.config.families import scaled_reference
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.settings import Settings
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.data.batches import Split
from mbsearch.data.sources import ImageSource, load_source
from mbsearch.space.architecture import Architecture
from mbsearch.training.devices import prepare_worker
from mbsearch.training.donors.channel_order import Criterion, sort_channels
from mbsearch.training.donors.files import Donor, TrainedDonor, find_donor
from mbsearch.training.donors.inheritance import inherit_from
from mbsearch.training.long_training import LongTraining
from mbsearch.training.loop import evaluate
from mbsearch.training.network import build, skeleton
from mbsearch.training.resumable_training import prepare
from mbsearch.training.supernet.shared_weights import inherit
from mbsearch.training.supernet.supernet_training import SupernetTraining, load_shared
from mbsearch.training.teacher import TeacherLogits, TeacherTraining, read_logits, write_logits
from mbsearch.training.weights import match_weights, read_weights

ROWS = Path(__file__).parent.parent / "results" / "inheritance" / "rows.json"
CPU = torch.device("cpu")
NETWORKS = ("0.5/64", "0.25/112", "0.35/80")  # alpha/resolution
EPOCHS = 10


@dataclass(frozen=True)
class Alternative:
    """One way to start and to train a network."""

    name: str
    order: Criterion | None = "readers"  # None: channels as they are in the file
    start: str = "donor"  # or scratch, supernet, supernet without a teacher
    distilled: bool = False
    rate: float = 0.004  # of batches of 32
    half_pixels: float = 0.0  # share of the epochs


ALTERNATIVES = (
    Alternative("from scratch", start="scratch", rate=0.006),
    Alternative("donor, channels as they are", order=None),
    Alternative("donor, sorted by readers"),
    Alternative("donor, sorted by writers", order="writers"),
    Alternative("donor, sorted by norms", order="norms"),
    Alternative("donor, half the rate", rate=0.002),
    Alternative("donor, distilled", distilled=True),
    Alternative("supernet", start="supernet", rate=0.002),
    Alternative("supernet, distilled", start="supernet", distilled=True, rate=0.002),
    Alternative("supernet, distilled, twice the rate", start="supernet", distilled=True),
    Alternative(
        "supernet, distilled, half the pixels for half of the epochs",
        start="supernet",
        distilled=True,
        rate=0.002,
        half_pixels=0.5,
    ),
    Alternative("supernet without a teacher", start="plain supernet", rate=0.002),
)


@dataclass(frozen=True)
class Row:
    """Test accuracy and CPU time of one training of one network."""

    alternative: str
    network: str
    seed: int
    accuracy: float
    cpu_seconds: float
    share: float


@dataclass(frozen=True)
class Bench:
    """Images, space and donor, and the folder of the teacher and the supernets."""

    source: ImageSource
    space: SearchSpecification
    donor: Donor
    work: Path

    def sorted_donor(self, order: Criterion | None) -> TrainedDonor:
        """Return the donor with its channels sorted by a criterion."""
        network = self.donor.architecture
        state = match_weights(
            skeleton(network), read_weights(self.donor.path), self.donor.path, eps=self.donor.eps
        )
        ordered = dict(state) if order is None else sort_channels(network, state, order)
        return TrainedDonor(f"{self.donor.key} {order}", network, ordered)

    def teacher_logits(self) -> TeacherLogits:
        """Return the teacher's logits; train the teacher if there are none."""
        path = self.work / "lessons.pt"
        if not path.exists():
            teacher = TeacherTraining(
                self.space, self.source, 0, CPU, donor=self.sorted_donor("readers")
            )
            prepare(teacher, self.work / "teacher.pt")
            write_logits(teacher.compute_logits(), path)
            print(f"teacher: {teacher.seconds:.0f} s", flush=True)
        return read_logits(path)

    def supernet(self, taught: bool) -> Path:
        """Return the file of a supernet that is trained from the sorted donor."""
        path = self.work / f"supernet-{taught}.pt"
        training = SupernetTraining(
            self.space,
            self.source,
            0,
            CPU,
            self.sorted_donor("readers"),
            self.teacher_logits() if taught else None,
        )
        prepare(training, path)
        print(f"supernet, taught {taught}: {training.seconds:.0f} s", flush=True)
        return path

    def train(self, how: Alternative, network: Architecture, seed: int) -> Row:
        """Train one network as an alternative says."""
        settings = self.space.settings
        fresh = build(network, zero_init_residual=True, seed=seed)
        share = 0.0
        if how.start != "scratch":
            share = inherit_from(network, fresh, self.sorted_donor(how.order))
        if "supernet" in how.start:
            shared = load_shared(self.supernet("plain" not in how.start))
            inherit(network, fresh, shared, centred=True)
        recipe = Retrain(
            epochs=EPOCHS, batch_size=32, learning_rate=how.rate, warmup=settings.retrain.warmup
        )
        started = time.process_time()

        def split(epoch: int) -> Split:
            scale = 0.5 if epoch < how.half_pixels * EPOCHS else 1.0
            images = self.source.split("train", network.image_format.scaled(scale))
            return self.teacher_logits().attached(images, "train") if how.distilled else images

        training = LongTraining(
            network=fresh,
            recipe=recipe,
            train_split=split(0),
            validation_split=None,
            device=CPU,
            seed=seed,
            flip=self.source.flippable,
            teacher=settings.teacher,
        )
        for epoch in range(EPOCHS):
            images = split(epoch)
            if images.images.shape != training.train_split.images.shape:
                training.replace_images(images, None)
            training.run_epoch()
        seconds = time.process_time() - started
        _, accuracy = evaluate(
            training.scored, self.source.split("test", network.image_format), CPU
        )
        return Row(how.name, network.name, seed, accuracy, seconds, share)


def rows(
    bench: Bench,
    path: Path,
    seeds: int,
    alternatives: Sequence[Alternative],
    networks: Sequence[str],
) -> Iterator[Row]:
    """Return all rows; train the missing ones first."""
    known = read_rows(path) if path.exists() else []
    for seed in range(seeds):
        for how in alternatives:
            for size in networks:
                alpha, _, resolution = size.partition("/")
                network = scaled_reference(
                    "efficientnet_lite0", float(alpha), int(resolution), bench.source.num_classes
                )
                found = [
                    r
                    for r in known
                    if (r.alternative, r.network, r.seed) == (how.name, network.name, seed)
                ]
                if not found:
                    found = [bench.train(how, network, seed)]
                    known += found
                    path.write_text(json.dumps([asdict(each) for each in known], indent=1))
                    print(found[0], flush=True)
                yield found[0]


def read_rows(path: Path) -> list[Row]:
    """Return the completed rows in a file."""
    return [Row(**each) for each in json.loads(path.read_text())]


def table(found: Sequence[Row]) -> str:
    """Return the table of mean accuracies, with their standard deviation over several seeds."""
    names = list(dict.fromkeys(row.network for row in found))
    sizes = [name.removeprefix("EfficientNet-Lite0 ") for name in names]
    lines = [
        f"| alternative | rate | {' | '.join(sizes)} | CPU s |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    for how in ALTERNATIVES:
        own = [row for row in found if row.alternative == how.name]
        if own:
            cells = [_mean([row.accuracy for row in own if row.network == name]) for name in names]
            seconds = median(row.cpu_seconds for row in own if row.network == own[0].network)
            lines.append(f"| {how.name} | {how.rate:g} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def _mean(accuracies: Sequence[float]) -> str:
    if len(accuracies) < 2:
        return "".join(f"{each:.3f}" for each in accuracies)
    return f"{fmean(accuracies):.3f} ± {stdev(accuracies):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="folder of images")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budget", default="20M", help="largest Mult-Adds of the supernet's paths")
    parser.add_argument("--space", default="photos")
    parser.add_argument("--scale", type=float, default=1.0, help="resolution scale of the supernet")
    parser.add_argument("--networks", nargs="*", default=NETWORKS, help="alpha/resolution")
    parser.add_argument("--only", nargs="*", help="names of alternatives (default: all)")
    parser.add_argument("--out", type=Path, default=ROWS.parent)
    args = parser.parse_args()
    prepare_worker()
    args.out.mkdir(parents=True, exist_ok=True)
    source = load_source(args.photos, seed=0)
    space = load_specification(args.space)
    budgets = (Budget.model_validate({"mult_adds": args.budget}),)
    settings: Settings = space.settings.model_copy(
        update={
            "budgets": budgets,
            "proxy": space.settings.proxy.from_donor().model_copy(
                update={"resolution_scale": args.scale}
            ),
        }
    )
    space = space.with_settings(dict(settings))
    bench = Bench(source, space, find_donor("efficientnet_lite0"), args.out)
    chosen = [each for each in ALTERNATIVES if each.name in (args.only or [each.name])]
    found = list(rows(bench, args.out / ROWS.name, args.seeds, chosen, args.networks))
    print(table(found), end="")


if __name__ == "__main__":
    main()
