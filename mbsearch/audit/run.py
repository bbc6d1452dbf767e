"""Audit of a proxy: networks of all costs, scored by it, against a longer training or a table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from mbsearch.analysis.family_bias import lean
from mbsearch.analysis.rank_agreement import Judged, noise, rankings
from mbsearch.config.settings import GROWTH
from mbsearch.config.specification import SearchSpecification, baseline_architectures
from mbsearch.config.survey import sample_by_cost
from mbsearch.cost import measure
from mbsearch.errors import EvaluationError, SpecError
from mbsearch.evaluation import (
    OnPreparation,
    Say,
    Scoring,
    by_training,
    ignore_preparation,
    say_nothing,
)
from mbsearch.execution.local import LocalProcesses, settled
from mbsearch.execution.protocol import Evaluator, Task
from mbsearch.execution.table import read_table
from mbsearch.space.architecture import Architecture
from mbsearch.study.artifacts import AUDIT, Audit, damaged
from mbsearch.study.atomic_files import write_whole
from mbsearch.study.identity import Stamp, key_of, scored_by
from mbsearch.study.lock import driver_lock
from mbsearch.study.records import SEARCH

if TYPE_CHECKING:
    from mbsearch.data.parallel import OnImages

SMALLEST = 6  # networks: two in each third of the costs
_DAMAGED = (ValueError, TypeError, KeyError)  # no JSON, or another shape


def audit(
    space: SearchSpecification,
    *,
    folder: Path,
    networks: int = 24,
    references: int = 4,
    seeds: int = 2,
    epochs: int = 30,
    truth: Path | None = None,
    data: str | None = None,
    jobs: int | None = None,
    seed: int = 0,
    device: str | None = None,
    skip_damaged: bool = False,
    on_images: OnImages | None = None,
    on_start: Callable[[int, int], None] = lambda _done, _trainings: None,
    on_preparation: OnPreparation = ignore_preparation,
    on_end: Callable[[int, int], None] = lambda _done, _trainings: None,
    say: Say = say_nothing,
) -> Audit:
    """Measure how well a space's proxy ranks its networks; write it to `folder`.

    What has been trained is on disk at once, and the same call goes on from there.

    Args:
        folder: of the study that the audit belongs to.
        networks: how many to judge.
        references: how many of the space's baselines to judge beside them, to see whether the proxy
            is fair to the MobileNets; none are where `truth` is given.
        seeds: runs of the proxy for each, for the noise.
        epochs: of the long training that stands for the truth, on all training images.
        truth: a table of true accuracies, which takes the place of the long training.
        data: images; None takes the space's.
        jobs: worker processes; None takes one a core, on a GPU four that share it.
        seed: of the sample and of the trainings.
        device: ``cpu``, ``cuda``, ``mps``; None takes the best that is there.
        skip_damaged: see `run`.
        on_images: see `run`.
        on_start: called once with the trainings that are done, and all that are needed.
        on_preparation: see `run`.
        say: see `run`.
        on_end: called with the same two numbers whenever a training ends.

    Raises:
        SpecError: the space, or the number of networks, is too small.
        DataError: the images or the table cannot be used.
        EvaluationError: too few of the networks can be trained, or one is not in the table.
        StorageError: another process works in the folder, or it cannot be written.
    """
    if networks < SMALLEST:
        raise SpecError(f"--networks: expected at least {SMALLEST}, got {networks}")
    images = data or space.settings.proxy.data
    scoring = by_training(
        space,
        images,
        seed,
        device,
        folder,
        skip_damaged=skip_damaged,
        on_images=on_images,
    )
    proxy = scoring.space.settings.proxy
    chosen = sample_by_cost(scoring.space, networks, seed)
    if len(chosen) < networks:
        raise SpecError(
            f"{space.name}: expected {networks} networks within the limits for an audit, got "
            f"{len(chosen)}"
        )
    known = None if truth is None else _known(truth, scoring.space, chosen)
    beside: list[tuple[str, Architecture]] = []
    if known is None:
        beside = _references(scoring.space, references, chosen[0].num_classes)
    everyone = [*((SEARCH, network) for network in chosen), *beside]
    passes: list[tuple[Evaluator, dict[str, Task]]] = [
        (
            scoring.evaluator,
            {
                f"{network.fingerprint} {i}": Task(network, seed + i, origin=origin)
                for origin, network in everyone
                for i in range(seeds)
            },
        )
    ]
    if known is None:
        from mbsearch.training.proxy import ProxyTraining

        changes = {
            "evaluator": "training",
            "epochs": epochs,
            "train_images": None,
            "width_scale": 1.0,
        }
        long = ProxyTraining(
            proxy.model_copy(update=changes),
            images,
            seed,
            device,
            pretrained=scoring.pretrained,
            teacher=scoring.space.settings.teacher,
        )
        truth_tasks = {
            _truth_key(network, epochs): Task(network, seed, origin=origin)
            for origin, network in everyone
        }
        passes.append((long, truth_tasks))
    total = sum(len(work) for _, work in passes)
    if scoring.compile is not None:  # a device that is none is said before anything is made
        scoring.compile(say)
    with driver_lock(folder):
        if scoring.train_shared is not None:
            scoring.train_shared(scoring.space, math.inf, on_preparation, say)
        done = _Done.read(folder / "audit", _trained_by(scoring, seed))
        wanted = {key for _, work in passes for key in work}
        failed: set[str] = set()

        def ended() -> int:
            return len(wanted & done.rows.keys())

        on_start(ended(), total)
        for evaluator, work in passes:
            missing = {
                key: task
                for key, task in work.items()
                if key not in done.rows and task.architecture.fingerprint not in failed
            }
            if missing:
                with LocalProcesses(
                    evaluator, jobs or scoring.jobs(), scoring.prepare, scoring.imports()
                ) as pool:
                    failed |= _train(pool, missing, done, lambda: on_end(ended(), total), say)
        chosen = [network for network in chosen if network.fingerprint not in failed]
        beside = [(f, network) for f, network in beside if network.fingerprint not in failed]
        if len(chosen) < SMALLEST:
            raise EvaluationError(
                f"{space.name}: expected at least {SMALLEST} networks that can be trained for an "
                f"audit, got {len(chosen)}"
            )

        def judge(network: Architecture) -> Judged:
            if known is not None:
                return _judged(network, done.rows, seeds, known[network.fingerprint])
            true = done.rows[_truth_key(network, epochs)]["accuracy"]
            return _judged(network, done.rows, seeds, true)

        judged = [judge(network) for network in chosen]
        found = Audit(
            scoring.space.name,
            scoring.data,
            f"{epochs} epochs on all training images" if truth is None else truth.name,
            len(judged),
            sum(each.seconds for each in judged) / len(judged),
            noise(judged),
            rankings(judged, seed, space.settings.metric, proxy.growth or GROWTH),
            [
                lean(family, [judge(network) for _, network in members], judged)
                for family, members in groupby(beside, key=itemgetter(0))
            ],
            scored_by(scoring.space, scoring.key),
        )
        write_whole(folder / AUDIT, json.dumps(asdict(found), indent=1))
    return found


def _trained_by(scoring: Scoring, seed: int) -> Stamp:
    """What the trainings of an audit depend on; shared weights also on all that share them."""
    space = scoring.space
    shared = None
    if scoring.train_shared is not None:
        shared = [space.fingerprint, *(n.fingerprint for _, n in baseline_architectures(space))]
    no_trainings = {"data", "growth", "noise_seeds"}
    proxy = space.settings.proxy.model_dump(mode="json", exclude=no_trainings)
    stamp = {"proxy": proxy, "data_key": scoring.key, "shared": shared, "seed": seed}
    if scoring.weights is not None:
        teacher = space.settings.teacher.model_dump(mode="json")
        stamp |= {"weights": scoring.weights, "teacher": teacher}
    return stamp


def _truth_key(network: Architecture, epochs: int) -> str:
    return f"{network.fingerprint} truth {epochs}"


def _references(
    space: SearchSpecification, count: int, classes: int
) -> list[tuple[str, Architecture]]:
    """Baselines of a space with their families: as many of each, evenly over their costs."""
    families: dict[str, list[Architecture]] = {}
    for family, network in baseline_architectures(space):
        families.setdefault(family, []).append(network.replace(num_classes=classes))
    found: list[tuple[str, Architecture]] = []
    for rank, (family, members) in enumerate(families.items()):
        share = min(len(members), (count + rank) // len(families))  # together as many as asked for
        members.sort(key=lambda network: measure(network)["mult_adds"])
        places = [round((i + 0.5) * len(members) / share - 0.5) for i in range(share)]
        found += [(family, members[place]) for place in places]
    return found


@dataclass(frozen=True, slots=True)
class _Done:
    """Trainings that have ended, on disk after each; a file for each proxy, images and seed."""

    path: Path
    stamp: Stamp
    rows: dict[str, dict[str, float]]

    @staticmethod
    def read(folder: Path, stamp: Stamp) -> _Done:
        path = folder / f"{key_of(stamp)}.json"
        if not path.exists():
            return _Done(path, stamp, {})
        try:
            return _Done(path, stamp, json.loads(path.read_text(encoding="utf-8"))["rows"])
        except _DAMAGED:
            raise damaged(path, "audit") from None

    def add(self, key: str, row: dict[str, float]) -> None:
        self.rows[key] = row
        self.path.parent.mkdir(exist_ok=True)
        write_whole(self.path, json.dumps({"stamp": self.stamp, "rows": self.rows}))


def _train(
    pool: LocalProcesses,
    work: Mapping[str, Task],
    done: _Done,
    on_end: Callable[[], None],
    say: Say,
) -> set[str]:
    """Train what is missing; the fingerprints of what cannot be trained, which is said."""
    failed: set[str] = set()
    keys = list(work)
    for finished in settled(pool, list(work.values())):
        key = keys[finished.ticket]
        if finished.outcome is None:
            network = work[key].architecture
            say(
                f"{network.name} ({network.fingerprint}): {finished.error}; the audit goes "
                "without it"
            )
            failed.add(network.fingerprint)
            continue
        evaluation = finished.outcome.evaluation
        row = {
            "accuracy": evaluation.accuracy,
            "loss": evaluation.validation_loss,
            "seconds": evaluation.seconds,
        }
        done.add(key, row)
        on_end()
    return failed


def _known(
    path: Path, space: SearchSpecification, chosen: Sequence[Architecture]
) -> dict[str, float]:
    table = read_table(path, space)
    for network in chosen:
        if network.fingerprint not in table:
            raise EvaluationError(
                f"{path}: expected every network of the space, got none for {network.fingerprint}"
            )
    return {network.fingerprint: table[network.fingerprint] for network in chosen}


def _judged(
    network: Architecture,
    rows: Mapping[str, Mapping[str, float]],
    seeds: int,
    truth: float,
) -> Judged:
    key = network.fingerprint
    runs = [rows[f"{key} {i}"] for i in range(seeds)]
    return Judged(
        truth=truth,
        costs=measure(network),
        accuracies=[run["accuracy"] for run in runs],
        losses=[run["loss"] for run in runs],
        seconds=sum(run["seconds"] for run in runs) / seeds,
    )
