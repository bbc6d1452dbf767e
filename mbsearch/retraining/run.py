"""Retrain a study's networks by the full recipe with several seeds, resumably."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbsearch.analysis.retrained_margins import retrained_margins
from mbsearch.config.scores import Score
from mbsearch.config.settings import Settings
from mbsearch.cost import Measure, measure
from mbsearch.data.sources import load_known_source
from mbsearch.errors import EvaluationError
from mbsearch.execution.local import Executor, settled
from mbsearch.execution.protocol import Task
from mbsearch.export.quantization import int8_predictions
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.retraining.competitors import Competitor
from mbsearch.retraining.workers import training_workers
from mbsearch.study.identity import fingerprint_of
from mbsearch.study.images_record import KnownImages
from mbsearch.study.lock import driver_lock
from mbsearch.study.records import Evaluation
from mbsearch.study.retrained_file import Retrained, RetrainedFile, merged, retrained_by
from mbsearch.study.training_files import RETRAIN_FOLDER
from mbsearch.training.devices import training_devices
from mbsearch.training.long_training import FinalTraining, WeightsFile
from mbsearch.training.preparations import kept_start

_LOGGER = logging.getLogger(__name__)


def retrain_study(
    folder: Path,
    chosen: Sequence[Competitor],
    settings: Settings,
    *,
    known: KnownImages,
    data: str | None = None,
    split_seed: int,
    jobs: int | None = None,
    device: str | None = None,
    skip_damaged: bool = False,
    start: WeightsFile | None = None,
    teacher: bool = True,
    measure: Measure = measure,
    on_progress: OnProgress = ignore_progress,
) -> list[Retrained]:
    """Train networks by the full recipe on training and validation images, and test them.

    Trainings are saved below ``retrain`` in the study's folder, results in ``retrain.json`` and
    ``retrain.csv``. An interrupted call resumes from the last epoch of each training. Networks and
    seeds of an earlier retraining by the same recipe are kept and not trained again.

    Args:
        folder: folder of the study.
        chosen: networks to train.
        settings: of the space, with the recipe in `retrain`.
        known: what the study knows of its images.
        data: where they are now; None for where the search found them.
        split_seed: of the study, for the same test images.
        jobs: trainings at a time; None for one a core, or four on a GPU.
        device: ``cpu``, ``cuda``, ``mps``; None selects the best one available. Each training uses
            all GPUs.
        skip_damaged: leave out image files that cannot be read. Files that the search left out are
            left out in any case.
        start: initial weights of one of the networks.
        teacher: whether networks learn from the study's teacher, if it has one.
        measure: the costs of a network.
        on_progress: receives an event for every completed training, and while images are checked.

    Raises:
        DataError: the images cannot be read.
        EvaluationError: every training of the candidates failed.
        StorageError: another process retrains this study, or its folder cannot be written.
    """
    min_images = settings.proxy.min_images
    source = load_known_source(
        known, data, seed=split_seed, min_images=min_images, on_progress=on_progress
    )
    recipe = settings.retrain.sized(
        sum(len(source.members[k].rows) for k in ("train", "validation"))
    )
    scale = settings.final_scale(source.place)
    if source.study_key != known.key:
        if not skip_damaged:
            source.require_undamaged()
        _LOGGER.warning(
            f"{source.name}: expected the images of the search, got others (names or contents "
            "differ): the search may have trained on some of the test images"
        )
    for line in source.damage:
        _LOGGER.warning(line)
    facts = recipe.facts() | {
        "resolution_scale": scale,
        "data_key": source.study_key,
        "split_seed": split_seed,
        "averaging": "warmed up",  # results without it are not comparable
    }
    if start is not None:
        facts["start"] = start.facts()
    pretrained = kept_start(settings, source, folder, teacher=teacher)
    if pretrained is not None:
        facts["weights"] = pretrained.donor.key
        facts["supernet"] = pretrained.supernet is not None
        if pretrained.teacher_logits is not None:
            facts["teacher"] = settings.teacher.model_dump(mode="json")
    home = folder / RETRAIN_FOLDER / fingerprint_of(facts)
    with driver_lock(home):
        training = FinalTraining(
            recipe,
            scale,
            source.place,
            home,
            split_seed=split_seed,
            devices=training_devices(device),
            start=start,
            pretrained=pretrained,
            teacher=settings.teacher,
            min_images=min_images,
            score=settings.score,
            int8=int8_predictions,
        )
        with training_workers(training, jobs) as executor:
            results = retrain(chosen, executor, recipe.seeds, on_progress, measure, settings.score)
        test_images = len(source.members["test"].rows)
        facts |= {"folder": home.name, "test_images": test_images}
        return write_retrained(folder, results, facts)


def write_retrained(
    folder: Path, results: Sequence[Retrained], settings: Mapping[str, Any]
) -> list[Retrained]:
    """Write ``retrain.json`` and ``retrain.csv``, and return the results.

    The files are in the study's folder. Networks and seeds of an earlier retraining by the same
    settings stay.

    Raises:
        StorageError: they cannot be written.
    """
    networks, found = merged(retrained_by(folder, settings), results)
    RetrainedFile(settings, networks).write(folder, retrained_margins(networks))
    return found


def retrain(
    chosen: Sequence[Competitor],
    executor: Executor,
    seeds: int,
    on_progress: OnProgress = ignore_progress,
    measure: Measure = measure,
    score: Score = Score.ACCURACY,
) -> list[Retrained]:
    """Train every competitor with every seed, and return the test accuracies.

    A network that is listed several times is trained once. The results leave out failed trainings,
    and the references of a candidate without results. All networks are trained with one seed before
    the next seed begins.

    Args:
        chosen: the networks; references follow their candidate.
        executor: runs a `FinalTraining`, which keeps completed trainings on disk.
        seeds: number of trainings for each network.
        on_progress: receives an event for every completed training.
        measure: the costs of a network.
        score: what the accuracies are.

    Raises:
        EvaluationError: every training of the candidates failed.
    """
    distinct: dict[str, Competitor] = {}
    for competitor in chosen:
        distinct.setdefault(competitor.architecture.fingerprint, competitor)
    tasks = [(competitor, seed) for seed in range(seeds) for competitor in distinct.values()]
    completed: dict[tuple[str, int], Evaluation] = {}
    work = [Task(e.architecture, seed, origin=e.family) for e, seed in tasks]
    for finished in settled(executor, work):
        competitor, seed = tasks[finished.ticket]
        if finished.outcome is None:
            _LOGGER.warning(
                f"{competitor.name}, seed {seed}: {finished.error}; the results leave it out, and "
                "the same command tries it again"
            )
            continue
        evaluation = finished.outcome.evaluation
        completed[competitor.architecture.fingerprint, seed] = evaluation
        line = f"{competitor.name}, seed {seed}: test {score.noun} {evaluation.accuracy:.4f}"
        if evaluation.int8 is not None:
            line += f", int8 {evaluation.int8.sentence()}"
        on_progress(Progress("retraining", len(completed), len(tasks), message=line))
    results: list[Retrained] = []
    for competitor in chosen:
        key = competitor.architecture.fingerprint
        evaluations = [completed[key, seed] for seed in range(seeds) if (key, seed) in completed]
        orphaned = competitor.reference_of not in [None, *(each.name for each in results)]
        if not evaluations or orphaned:
            continue
        results.append(_retrained(competitor, evaluations, measure, score))
    if not results:
        raise EvaluationError("every training of the candidates failed")
    return results


def _retrained(
    competitor: Competitor, evaluations: Sequence[Evaluation], measure: Measure, score: Score
) -> Retrained:
    """Return a network's result, given its evaluations."""
    network = competitor.architecture
    kept = [e.predictions for e in evaluations if e.predictions is not None]
    return Retrained(
        name=competitor.name,
        family=competitor.family,
        fingerprint=network.fingerprint,
        alpha=network.alpha,
        resolution=network.resolution,
        costs=measure(network),
        proxy_accuracy=competitor.proxy_accuracy,
        seeds=tuple(e.seed for e in evaluations),
        accuracies=tuple(e.accuracy for e in evaluations),
        pixels=evaluations[0].pixels,
        seconds=sum(e.seconds for e in evaluations),
        compared_with=competitor.reference_of,
        architecture=network,
        predictions=tuple(kept) if len(kept) == len(evaluations) else (),
        score=score,
        int8={e.seed: e.int8 for e in evaluations if e.int8 is not None},
    )
