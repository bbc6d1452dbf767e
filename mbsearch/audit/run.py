"""Measure the rank agreement of a proxy with long training or with a table of accuracies."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random

from mbsearch.analysis.family_bias import family_bias
from mbsearch.analysis.rank_agreement import Judged, noise, rankings
from mbsearch.config.proxy_settings import GROWTH
from mbsearch.config.scores import Score
from mbsearch.config.specification import SearchSpecification, baseline_architectures
from mbsearch.config.survey import sample_by_cost
from mbsearch.cost import measure
from mbsearch.errors import DataError, EvaluationError, SpecError
from mbsearch.evaluation import Scoring, by_training
from mbsearch.execution.local import LocalProcesses, settled
from mbsearch.execution.protocol import Evaluator, Task
from mbsearch.execution.table import read_table
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.search.references import references_within, with_questions
from mbsearch.space.architecture import Architecture
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.audit_file import Audit
from mbsearch.study.identity import Identity, fingerprint_of, scoring_identity
from mbsearch.study.images_record import KnownImages
from mbsearch.study.json_files import damaged_file
from mbsearch.study.lock import driver_lock
from mbsearch.study.opening import journals, read_study
from mbsearch.study.records import SEARCH, Evaluation

SMALLEST = 6  # networks: two in each third of the costs
_DAMAGED = (ValueError, TypeError, KeyError)  # not JSON, or JSON of another shape

_LOGGER = logging.getLogger(__name__)


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
    on_progress: OnProgress = ignore_progress,
) -> Audit:
    """Measure the rank agreement of a space's proxy, and write the result to `folder`.

    Every completed training is saved at once, and the same call resumes.

    Args:
        space: whose proxy is audited.
        folder: folder of the study that the audit belongs to.
        networks: number of networks to sample.
        references: number of the search's references to audit beside them, to measure a bias for
            or against MobileNets; none are audited with `truth`.
        seeds: trainings by the proxy for each network, for the noise.
        epochs: number of epochs of the long training on all training images.
        truth: a table of true accuracies, instead of the long training.
        data: images; None for the study's, or the space's if there is no study.
        jobs: worker processes; None for one a core, or four on a GPU.
        seed: seed of the sample and the trainings.
        device: ``cpu``, ``cuda``, ``mps``; None selects the best one available.
        skip_damaged: leave out image files that cannot be read; by default they are an error.
        on_progress: receives an event for every completed training, for every step of a training
            before them, and while images are read.

    Raises:
        SpecError: the space, or the number of networks, is too small.
        DataError: the images or the table cannot be used.
        EvaluationError: too few of the networks can be trained, or one is not in the table.
        StorageError: another process works in the folder, or it cannot be written.
    """
    if networks < SMALLEST:
        raise SpecError(f"--networks: expected at least {SMALLEST}, got {networks}")
    study = _images_of_study(folder)
    images = data or (space.settings.proxy.data if study is None else study.place)
    scoring = by_training(
        space,
        images,
        seed,
        device,
        folder,
        skip_damaged=skip_damaged,
        known=study,
        on_progress=on_progress,
    )
    if study is not None and scoring.key != study.key:
        raise DataError(
            f"{scoring.data}: expected the images of the study in {folder} ({study.place}), got "
            "others (names or contents differ); --data names where they are now, --name another "
            "study"
        )
    subjects = _Subjects.sampled(scoring.space, networks, seed)
    known = None
    if truth is None:
        subjects = subjects.with_references(scoring.space, references)
    else:
        known = _known(truth, scoring.space, subjects.networks)
    procedure = _Procedure(scoring, seed, seeds, epochs, known)
    passes = procedure.passes(subjects, scoring.place or images, device)
    if scoring.compile is not None:  # raises an error for an unknown device, before any file
        scoring.compile()
    with driver_lock(folder):
        if scoring.train_shared is not None:
            scoring.train_shared(scoring.space, math.inf, on_progress)
        trained = _Trained.read(folder / "audit", _trained_by(scoring, seed))
        failed = _train(passes, trained, scoring, jobs, on_progress)
        name = f"{epochs} epochs on all training images" if truth is None else truth.name
        found = procedure.result(subjects.without(failed), trained.rows, name)
        found.write(folder)
    return found


def _images_of_study(folder: Path) -> KnownImages | None:
    """Return the images of the study in a folder; None if there is no study."""
    return KnownImages.of(read_study(folder).settings()) if journals(folder) else None


@dataclass(frozen=True, slots=True)
class _Subjects:
    """The networks of an audit: sampled ones, and references with their families."""

    networks: list[Architecture]
    references: list[tuple[str, Architecture]]

    @staticmethod
    def sampled(space: SearchSpecification, count: int, seed: int) -> _Subjects:
        """Return `count` networks of the space, sampled over the range of costs.

        Raises:
            SpecError: the space has too few networks within its limits.
        """
        networks = sample_by_cost(space, count, seed)
        if len(networks) < count:
            raise SpecError(
                f"{space.name}: expected {count} networks within the limits for an audit, got "
                f"{len(networks)}"
            )
        return _Subjects(networks, [])

    def with_references(self, space: SearchSpecification, count: int) -> _Subjects:
        """Return the subjects with `count` references of the search added."""
        return _Subjects(self.networks, _references(space, count))

    def without(self, failed: Set[str]) -> _Subjects:
        """Return the subjects without the networks with these fingerprints."""
        return _Subjects(
            [network for network in self.networks if network.fingerprint not in failed],
            [(f, network) for f, network in self.references if network.fingerprint not in failed],
        )

    @property
    def origins(self) -> list[tuple[str, Architecture]]:
        """All networks as pairs of origin and architecture."""
        return [*((SEARCH, network) for network in self.networks), *self.references]


@dataclass(frozen=True, slots=True)
class _Pass:
    """Trainings by one evaluator, each under the key of its result."""

    evaluator: Evaluator
    tasks: dict[str, Task]


@dataclass(frozen=True, slots=True)
class _Procedure:
    """The trainings of an audit, and how their results are compared.

    Args:
        scoring: scoring by the proxy.
        seed: seed of the sample and the trainings.
        seeds: trainings by the proxy for each network.
        epochs: number of epochs of the long training.
        known: true accuracies by fingerprint; None if the long training measures them.
    """

    scoring: Scoring
    seed: int
    seeds: int
    epochs: int
    known: Mapping[str, float] | None

    def passes(self, subjects: _Subjects, images: str, device: str | None) -> list[_Pass]:
        """Return the proxy trainings, and the long trainings unless accuracies are known."""
        short = {
            f"{network.fingerprint} {i}": Task(network, self.seed + i, origin=origin)
            for origin, network in subjects.origins
            for i in range(self.seeds)
        }
        passes = [_Pass(self.scoring.evaluator, short)]
        if self.known is not None:
            return passes
        from mbsearch.training.proxy import ProxyTraining

        settings = self.scoring.space.settings
        changes = {
            "evaluator": "training",
            "epochs": self.epochs,
            "train_images": None,
            "width_scale": 1.0,
        }
        evaluator = ProxyTraining(
            settings.proxy.model_copy(update=changes),
            images,
            self.seed,
            device,
            pretrained=self.scoring.pretrained,
            teacher=settings.teacher,
            score=settings.score,
        )
        long = {
            self._long_key(network): Task(network, self.seed, origin=origin)
            for origin, network in subjects.origins
        }
        return [*passes, _Pass(evaluator, long)]

    def result(self, subjects: _Subjects, rows: _Rows, truth: str) -> Audit:
        """Compare the proxy's scores with the true accuracies, and return the audit.

        Raises:
            EvaluationError: too few networks are left.
        """
        space = self.scoring.space
        if len(subjects.networks) < SMALLEST:
            raise EvaluationError(
                f"{space.name}: expected at least {SMALLEST} networks that can be trained for an "
                f"audit, got {len(subjects.networks)}"
            )
        judged = [self._judged(network, rows) for network in subjects.networks]
        growth = space.settings.proxy.growth or GROWTH
        return Audit(
            space.name,
            self.scoring.data,
            truth,
            len(judged),
            sum(each.seconds for each in judged) / len(judged),
            noise(judged),
            rankings(judged, self.seed, space.settings.metric, growth),
            [
                family_bias(family, [self._judged(network, rows) for _, network in members], judged)
                for family, members in groupby(subjects.references, key=itemgetter(0))
            ],
            scoring_identity(space, self.scoring.key),
        )

    def _judged(self, network: Architecture, rows: _Rows) -> Judged:
        """Return a network's scores and true accuracy."""
        key = network.fingerprint
        runs = [rows[f"{key} {i}"] for i in range(self.seeds)]
        known = self.known
        return Judged(
            truth=rows[self._long_key(network)]["accuracy"] if known is None else known[key],
            costs=measure(network),
            accuracies=[run["accuracy"] for run in runs],
            losses=[run["loss"] for run in runs],
            seconds=sum(run["seconds"] for run in runs) / self.seeds,
        )

    def _long_key(self, network: Architecture) -> str:
        return f"{network.fingerprint} truth {self.epochs}"


def _trained_by(scoring: Scoring, seed: int) -> Identity:
    """Return the identity of an audit's trainings: everything that they depend on.

    Shared weights also depend on the space and on all baselines.
    """
    space = scoring.space
    shared = None
    if scoring.train_shared is not None:
        shared = [space.fingerprint, *(n.fingerprint for _, n in baseline_architectures(space))]
    no_trainings = {"data", "min_images", "growth", "noise_seeds"}
    proxy = space.settings.proxy.model_dump(mode="json", exclude=no_trainings)
    identity = {"proxy": proxy, "data_key": scoring.key, "shared": shared, "seed": seed}
    if space.settings.score is not Score.ACCURACY:
        identity["score"] = str(space.settings.score)
    if scoring.weights is not None:
        teacher = space.settings.teacher.model_dump(mode="json")
        identity |= {"weights": scoring.weights, "teacher": teacher}
    return identity


def _references(space: SearchSpecification, count: int) -> list[tuple[str, Architecture]]:
    """Return (family, network) pairs: about equally many per family, spread over Mult-Adds."""
    families: dict[str, list[Architecture]] = {}
    for family, network in references_within(with_questions(space)):
        families.setdefault(family, []).append(network)
    found: list[tuple[str, Architecture]] = []
    for rank, (family, members) in enumerate(families.items()):
        share = min(len(members), (count + rank) // len(families))  # the shares add up to count
        members.sort(key=lambda network: measure(network)["mult_adds"])
        places = [round((i + 0.5) * len(members) / share - 0.5) for i in range(share)]
        found += [(family, members[place]) for place in places]
    return found


_Rows = Mapping[str, Mapping[str, float]]
"""Accuracy, loss and seconds of completed trainings, by key."""


@dataclass(frozen=True, slots=True)
class _Trained:
    """Completed trainings in a file, which is written after each of them.

    There is one file for each combination of proxy, images and seed.
    """

    path: Path
    identity: Identity
    rows: dict[str, dict[str, float]]

    @staticmethod
    def read(folder: Path, identity: Identity) -> _Trained:
        """Read the completed trainings from their file in `folder`.

        Raises:
            StorageError: the file is damaged.
        """
        path = folder / f"{fingerprint_of(identity)}.json"
        if not path.exists():
            return _Trained(path, identity, {})
        try:
            return _Trained(path, identity, json.loads(path.read_text(encoding="utf-8"))["rows"])
        except _DAMAGED:
            raise damaged_file(path, "audit") from None

    def add(self, key: str, evaluation: Evaluation) -> None:
        """Add a completed training, and write the file."""
        self.rows[key] = {
            "accuracy": evaluation.accuracy,
            "loss": evaluation.validation_loss,
            "seconds": evaluation.seconds,
        }
        self.path.parent.mkdir(exist_ok=True)
        write_atomically(self.path, json.dumps({"stamp": self.identity, "rows": self.rows}))

    def missing(self, tasks: Mapping[str, Task], failed: Set[str]) -> dict[str, Task]:
        """Return the trainings that are not completed, without those of `failed` networks."""
        return {
            key: task
            for key, task in tasks.items()
            if key not in self.rows and task.architecture.fingerprint not in failed
        }


def _train(
    passes: Sequence[_Pass],
    trained: _Trained,
    scoring: Scoring,
    jobs: int | None,
    on_progress: OnProgress,
) -> set[str]:
    """Run the missing trainings; return the fingerprints of networks whose training failed."""
    wanted = {key for each in passes for key in each.tasks}
    failed: set[str] = set()
    score = scoring.space.settings.score

    def report(message: str | None = None) -> None:
        completed = len(wanted & trained.rows.keys())
        on_progress(Progress("audit", completed, len(wanted), message=message))

    report()
    for each in passes:
        work = trained.missing(each.tasks, failed)
        if not work:
            continue
        with LocalProcesses(
            each.evaluator, jobs or scoring.jobs(), scoring.prepare, scoring.imports()
        ) as pool:
            keys = list(work)
            Random(len(keys)).shuffle(keys)  # networks are sorted by cost; a mean time needs a mix
            for finished in settled(pool, [work[key] for key in keys]):
                key = keys[finished.ticket]
                network = work[key].architecture
                if finished.outcome is None:
                    _LOGGER.warning(
                        f"{network.name} ({network.fingerprint}): {finished.error}; the audit "
                        "leaves it out"
                    )
                    failed.add(network.fingerprint)
                    continue
                evaluation = finished.outcome.evaluation
                trained.add(key, evaluation)
                report(f"{network.name} ({key}): {score.noun} {evaluation.accuracy:.3f}")
    return failed


def _known(
    path: Path, space: SearchSpecification, chosen: Sequence[Architecture]
) -> dict[str, float]:
    """Return the accuracies of the chosen networks from a table, by fingerprint.

    Raises:
        EvaluationError: a network is not in the table.
    """
    table = read_table(path, space)
    for network in chosen:
        if network.fingerprint not in table:
            raise EvaluationError(
                f"{path}: expected every network of the space, got none for {network.fingerprint}"
            )
    return {network.fingerprint: table[network.fingerprint] for network in chosen}
