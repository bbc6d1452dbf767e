"""The scoreboard: compare answers of searches with MobileNets on test images.

    python benchmarks/wins.py --clothing FOLDER --cifar10 FOLDER

For each data set, search and budget: the answer of `mbsearch run` and `mbsearch status`, the
strongest references, the answer of a random search by the same command, and the plain script. All
are trained with mbsearch's retrain recipe, at their own resolution (the embedded images: a quarter
of it), with three seeds, on training and validation images. They are compared on the test images.

References are MobileNet V1, V2 and V3-small, as published and scaled freely, about 23 per budget.
Every search trains them beside its candidates. The first cost-aware search of a data set ranks
them by the validation accuracy of its finals, or else of its shorter trainings. So references are
selected like the answer, by the same validation images and often by one final. The best of each
family are compared, and the best ones of different families are retrained, once for all searches. A
reference that this search misjudges is missing from the scoreboard.

For each search the answers and references of all budgets are retrained first, then the random
search runs, and then the plain script. Each completed training and each cell is a file in --rows.
The same command resumes. At the end it writes docs/wins.md; --table does only that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from scoreboard import (
    PUBLISHED,
    SENSES,
    Row,
    Scoreboard,
    Search,
    Trained,
    is_kept,
    packed,
    write_json,
)

from mbsearch.analysis.findings import findings_of
from mbsearch.analysis.reference_families import best_references
from mbsearch.config.budgets import Budget
from mbsearch.config.families import scaled_reference
from mbsearch.config.settings import Settings
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.data.sources import load_source
from mbsearch.execution.local import LocalProcesses, settled
from mbsearch.execution.protocol import Task
from mbsearch.latency.benchmark import measure_latency
from mbsearch.space.architecture import Architecture
from mbsearch.study.opening import read_study
from mbsearch.training.devices import choose_device, prepare_worker, worker_imports
from mbsearch.training.long_training import FinalTraining
from mbsearch.training.loop import compile_ahead

HERE = Path(__file__).parent
CIFAR_SEED, CIFAR_PER_CLASS = 2018, 200
"""Of the 2,000 training images that are drawn of CIFAR-10's."""


@dataclass(frozen=True)
class DataSet:
    """Images with their budgets."""

    name: str
    path: str
    budgets: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """Folders of the scoreboard and options of its searches."""

    rows: Path
    work: Path
    space: str
    trials: int
    seeds: int
    jobs: int
    references: int
    run_options: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        """Return the settings of the search space, with the recipe of retraining."""
        return load_specification(self.space).settings

    def scale(self, data: DataSet) -> float:
        """Return the resolution scale of a retraining."""
        return self.settings.final_scale(data.path)

    @property
    def recipe_key(self) -> str:
        """Return a short name of the recipe of retraining."""
        recipe = self.settings.retrain.model_dump(mode="json", exclude={"seeds"})
        text = json.dumps(recipe, sort_keys=True)
        return blake2b(text.encode(), digest_size=4).hexdigest()


# Searches


def search(board: Board, data: DataSet, seed: int, sampler: str = "cost-aware") -> Search:
    """Run one search for all budgets of a data set, or read its time and memory.

    A random search trains as many networks, with the same references and finals. The time of both
    is in the row.
    """
    name = f"{data.name}-{sampler}-{seed}"
    taken = board.work / "studies" / f"{name}.json"
    command = [sys.executable, "-m", "mbsearch", "run", "--space", board.space, "--name", name]
    command += ["--data", data.path, "--results", str(board.work / "studies")]
    command += ["--seed", str(seed), "--sampler", sampler, "--trials", str(board.trials)]
    for budget in data.budgets:
        command += ["--budget", budget]
    if not taken.exists():
        taken.parent.mkdir(parents=True, exist_ok=True)
        measured = [sys.executable, str(HERE / "cpu_time.py"), f"{taken}.new"]
        print(" ".join(command), flush=True)
        subprocess.run([*measured, *command, *board.run_options], check=True)
        Path(f"{taken}.new").replace(taken)
    return Search(name, sampler, seed, **json.loads(taken.read_text()))


def answer(board: Board, found: Search, budget: str) -> Architecture:
    """Return a study's answer for a budget, under a name unique to the study."""
    folder = board.work / "studies" / found.name
    command = [sys.executable, "-m", "mbsearch", "status", str(folder), "--json"]
    told = subprocess.run([*command, "--budget", budget], check=True, stdout=subprocess.PIPE).stdout
    row = json.loads(told)
    if row["name"] is None:
        raise SystemExit(f"{found.name}: {row['sentence']}")
    network = Architecture.model_validate_json(json.dumps(row["architecture"]))
    if row["origin"] != "search":  # a reference, which is the same network in every search
        return network.replace(name=row["name"])
    kind = "random search" if found.sampler == "random" else "search"
    return network.replace(name=f"{row['name']} of {kind} {found.seed}")


# References


def strongest(board: Board, data: DataSet, budget: str) -> dict[str, list[Architecture]]:
    """Return the best reference of each family by sense, the best family first.

    The data set's first search ranks them. The number is that of retrained references.
    """
    study = read_study(board.work / "studies" / search(board, data, seed=0).name)
    findings = findings_of(study.records(), study.settings())
    bounds = Budget.model_validate({"mult_adds": budget})
    found = {}
    for sense in SENSES:
        best = best_references(findings, bounds, published=sense == PUBLISHED)
        named = [record.architecture.replace(name=record.label) for record in best]
        found[sense] = named[: board.references]
    return found


# Trainings


def processes(evaluator: Any, jobs: int) -> LocalProcesses:
    """Return worker processes that train on the CPU."""
    imports = worker_imports(choose_device("cpu"))
    return LocalProcesses(evaluator, jobs, prepare_worker, imports)


def training_key(board: Board, data: DataSet, network: Architecture) -> str:
    """Return the file name of a network's retrainings, equal for all searches."""
    return f"{data.name}-{network.fingerprint}-{board.recipe_key}"


def train(board: Board, data: DataSet, networks: Sequence[Architecture]) -> None:
    """Retrain networks with every seed, unless they have been retrained."""
    missing = {
        each.fingerprint: each
        for each in networks
        if not is_kept(board.rows, training_key(board, data, each), board.seeds)
    }
    evaluator = FinalTraining(
        board.settings.retrain, board.scale(data), data.path, board.work / "trainings" / data.name
    )
    tasks = [Task(n, seed) for n in missing.values() for seed in range(board.seeds)]
    ended: dict[str, list[Any]] = {fingerprint: [] for fingerprint in missing}
    with processes(evaluator, board.jobs) as executor:
        for finished in settled(executor, tasks):
            network = tasks[finished.ticket].architecture
            if finished.outcome is None:
                raise SystemExit(f"{network.name} on {data.name}: {finished.error}")
            evaluations = ended[network.fingerprint]
            evaluations.append(finished.outcome.evaluation)
            if len(evaluations) == board.seeds:
                evaluations.sort(key=lambda each: each.seed)
                row = Trained(
                    key=training_key(board, data, network),
                    data=data.name,
                    name=network.name,
                    architecture=network.to_dict(),
                    costs=measure(network),
                    pixels=evaluations[0].pixels.height,
                    seconds=[each.seconds for each in evaluations],
                    accuracies=[each.accuracy for each in evaluations],
                    images=len(evaluations[0].predictions.correct),
                    correct=[packed(each.predictions.correct) for each in evaluations],
                )
                write_json(board.rows / "trainings" / f"{row.key}.json", asdict(row))
                accuracy = float(np.mean(row.accuracies))
                print(f"{data.name}: {network.name}, test {accuracy:.4f}", flush=True)


def plain(board: Board, data: DataSet, budget: str) -> str:
    """Train the plain script's network and return the key of its trainings."""
    key = f"{data.name}-plain-{budget}"
    if is_kept(board.rows, key, board.seeds):
        return key
    found = board.work / f"{key}.json"
    command = [sys.executable, str(HERE / "plain_torchvision.py"), "--data", data.path]
    command += ["--budget", budget, "--scale", str(board.scale(data)), "--seeds", str(board.seeds)]
    command += ["--epochs", str(board.settings.retrain.epochs), "--out", str(found)]
    subprocess.run(command, check=True)
    row = json.loads(found.read_text())
    source = load_source(data.path, seed=0)
    network = scaled_reference("mobilenet_v2", row["alpha"], row["resolution"], source.num_classes)
    whole = Trained(
        key=key,
        data=data.name,
        name=row["name"],
        architecture=network.to_dict(),
        costs=measure(network),
        pixels=network.resolution.scaled(board.scale(data)).height,
        seconds=[row["cpu_seconds"]],
        accuracies=row["accuracies"],
        images=len(source.members["test"].rows),
        correct=row["correct"],
    )
    write_json(board.rows / "trainings" / f"{key}.json", asdict(whole))
    return key


# Cells


def fill(board: Board, data: DataSet, seed: int) -> None:
    """Fill the cells of one search: answers and references first, then the other competitors."""
    for budget in data.budgets:
        compare(board, data, budget, seed)
    for budget in data.budgets:
        compare_with_the_rest(board, data, budget, seed)


def cell_file(board: Board, data: DataSet, budget: str, seed: int) -> Path:
    """Return the file of a cell's row."""
    return board.rows / "cells" / f"{data.name}-{budget}-search{seed}.json"


def compare(board: Board, data: DataSet, budget: str, seed: int) -> None:
    """Retrain the answer and the references of a cell, and write its row."""
    path = cell_file(board, data, budget, seed)
    if path.exists():
        return
    started = time.monotonic()
    found = search(board, data, seed)
    chosen, references = answer(board, found, budget), strongest(board, data, budget)
    by_rank = [each for rank in zip_longest(*references.values()) for each in rank if each]
    train(board, data, [chosen, *by_rank])

    def key(network: Architecture) -> str:
        return training_key(board, data, network)

    strong = [chosen, *(group[0] for group in references.values() if group)]
    timed = list({key(network): network for network in strong}.values())
    latencies = measure_latency(timed, threads=1)
    row = Row(
        data=data.name,
        budget=budget,
        search=found,
        answer=key(chosen),
        references={
            sense: [key(network) for network in group] for sense, group in references.items()
        },
        latency_ms={
            key(n): 1000 * each.median_seconds for n, each in zip(timed, latencies, strict=True)
        },
        wall_seconds=time.monotonic() - started,
    )
    keep(board, path, row)


def compare_with_the_rest(board: Board, data: DataSet, budget: str, seed: int) -> None:
    """Add the answer of the random search and the plain script's network to a cell's row."""
    path = cell_file(board, data, budget, seed)
    row = Row.read(path)
    if row.is_complete:
        return
    started = time.monotonic()
    random = search(board, data, seed, "random")
    by_chance = answer(board, random, budget)
    train(board, data, [by_chance])
    row = replace(
        row,
        random_search=random,
        random=training_key(board, data, by_chance),
        plain=plain(board, data, budget),
    )
    keep(board, path, replace(row, wall_seconds=row.wall_seconds + time.monotonic() - started))


def keep(board: Board, path: Path, row: Row) -> None:
    """Write a cell's row, and print it."""
    write_json(path, asdict(row))
    print(Scoreboard.read(board.rows).line(row), flush=True)


def data_sets(args: argparse.Namespace) -> list[DataSet]:
    """Return the data sets of the command line; draw CIFAR-10's training images."""
    found = []
    if args.clothing is not None:
        found.append(DataSet("clothing", str(args.clothing), ("5M", "10M", "20M")))
    if args.cifar10 is not None:
        drawn = drawn_part(args.cifar10, args.work / "cifar10", CIFAR_PER_CLASS, CIFAR_SEED)
        found.append(DataSet("cifar10", str(drawn), ("5M", "10M", "20M")))
    found.append(DataSet("embedded", "embedded", ("10M", "20M", "50M")))
    return [each if args.budgets is None else replace(each, budgets=args.budgets) for each in found]


def drawn_part(folder: Path, target: Path, per_class: int, seed: int) -> Path:
    """Link some training images of each class and all test images in a new folder."""
    rng = np.random.default_rng(seed)
    for group in sorted(each for each in (folder / "train").iterdir() if each.is_dir()):
        files = sorted(group.iterdir())
        (target / "train" / group.name).mkdir(parents=True, exist_ok=True)
        for place in sorted(rng.choice(len(files), per_class, replace=False)):
            link = target / "train" / group.name / files[place].name
            if not link.is_symlink():
                link.symlink_to(files[place].resolve())
    if not (target / "test").is_symlink():
        (target / "test").symlink_to((folder / "test").resolve())
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--clothing", type=Path, help="folder of clothing-dataset-small, shorter side 160 px"
    )
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as a folder of train and test")
    parser.add_argument("--only", nargs="*", help="names of data sets (default: all)")
    parser.add_argument(
        "--budgets", nargs="*", help="for example 10M 20M (default: those of each data set)"
    )
    parser.add_argument("--space", default="v2.yaml")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--searches", type=int, default=2, help="searches per data set")
    parser.add_argument("--seeds", type=int, default=3, help="retrainings per network")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--references", type=int, default=2, help="retrained references per sense")
    parser.add_argument("--run-options", default="", help="more options of `mbsearch run`")
    parser.add_argument("--rows", type=Path, default=Path("results/wins"))
    parser.add_argument("--work", type=Path, default=Path("results/wins-work"))
    parser.add_argument("--table", action="store_true", help="only write docs/wins.md")
    args = parser.parse_args()
    if not args.table:
        board = Board(
            rows=args.rows,
            work=args.work,
            space=args.space,
            trials=args.trials,
            seeds=args.seeds,
            jobs=args.jobs,
            references=args.references,
            run_options=tuple(args.run_options.split()),
        )
        compile_ahead(choose_device("cpu"))
        for seed in range(args.searches):
            for data in data_sets(args):
                if data.name in (args.only or [data.name]):
                    fill(board, data, seed)
    (HERE.parent / "docs" / "wins.md").write_text(Scoreboard.read(args.rows).markdown())


if __name__ == "__main__":
    main()
