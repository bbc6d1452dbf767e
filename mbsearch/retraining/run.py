"""Retraining of a study's networks: several seeds each, side by side, resumable at every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mbsearch.analysis.retrained_margins import FOLDER, write_retrained
from mbsearch.config.settings import Settings
from mbsearch.cost import Measure, measure
from mbsearch.data.sources import load_source
from mbsearch.errors import EvaluationError
from mbsearch.execution.local import Executor, LocalProcesses, settled
from mbsearch.execution.protocol import Task
from mbsearch.retraining.competitors import Entrant
from mbsearch.study.artifacts import Retrained
from mbsearch.study.identity import key_of
from mbsearch.study.lock import driver_lock
from mbsearch.study.records import Evaluation
from mbsearch.training.devices import default_jobs, prepare_worker, training_devices, worker_imports
from mbsearch.training.long_training import FinalTraining, WeightsFile
from mbsearch.training.preparations import kept_start
from mbsearch.training.warm_up import compile_kernels

OnEnd = Callable[[str, int, float], None]
"""Called with name, seed and test accuracy of a training that has ended."""


def _quiet(_name: str, _seed: int, _accuracy: float) -> None:
    pass


def retrain_study(
    folder: Path,
    chosen: Sequence[Entrant],
    settings: Settings,
    *,
    data: str,
    data_key: str,
    split_seed: int,
    jobs: int | None = None,
    device: str | None = None,
    skip_damaged: bool = False,
    start: WeightsFile | None = None,
    teacher: bool = True,
    measure: Measure = measure,
    say: Callable[[str], None] = lambda _line: None,
    on_end: OnEnd = _quiet,
) -> list[Retrained]:
    """Retrain networks for long on train and validation images, and score them on the test's.

    Trainings live below ``retrain`` in the study's folder, results in ``retrain.json`` and
    ``retrain.csv``. A killed run goes on from the last epoch of each training. Networks and seeds
    of an earlier retraining by the same recipe stay, and are not trained again.

    Args:
        folder: of the study.
        chosen: networks to train.
        settings: of the space: the recipe stands in `retrain`; pixels follow `final_scale`.
        data: the study's images.
        data_key: what their content key was in the search.
        split_seed: of the study, so that its test images are the same ones.
        jobs: trainings at a time; None takes one a core, on a GPU four that share it.
        device: ``cpu``, ``cuda``, ``mps``; None takes the best that is there, and of several GPUs
            all of them for each training.
        skip_damaged: leave out image files that cannot be read. Those that the search left out are
            left out in any case.
        start: weights that one of the networks begins from.
        teacher: whether networks learn from the study's teacher, where it has one.
        measure: the costs of a network.
        say: called with a line before kernels are compiled for this machine, with a warning where
            the images are not those of the search any more, and with what failed.
        on_end: called whenever a training has ended.

    Raises:
        DataError: the images cannot be read.
        EvaluationError: every training of the candidates failed.
        StorageError: another process retrains this study, or its folder cannot be written.
    """
    source = load_source(data, seed=split_seed)
    recipe = settings.retrain.sized(
        sum(len(source.members[k].rows) for k in ("train", "validation"))
    )
    scale = settings.final_scale(data)
    if source.content_key != data_key:
        if not skip_damaged:
            source.require_undamaged()
        say(
            f"{data}: expected the images of the search, got others (names, sizes or times "
            "differ): test images may be among those that it has seen"
        )
    for line in source.damage:
        say(line)
    facts = recipe.model_dump(mode="json", exclude={"seeds"}) | {
        "resolution_scale": scale,
        "data_key": source.content_key,
        "split_seed": split_seed,
        "averaging": "warmed up",  # what was trained before it was is no rival
    }
    if start is not None:
        facts["start"] = start.facts()
    pretrained = kept_start(settings, source, folder, teacher=teacher)
    if pretrained is not None:
        facts["weights"] = pretrained.donor.key
        facts["supernet"] = pretrained.supernet is not None
        if pretrained.lessons is not None:
            facts["teacher"] = settings.teacher.model_dump(mode="json")
    home = folder / FOLDER / key_of(facts)
    with driver_lock(home):
        devices = training_devices(device)
        compile_kernels(devices[0], say)
        # Several devices are all one training's.
        jobs = 1 if len(devices) > 1 else jobs or default_jobs(devices[0])
        evaluator = FinalTraining(
            recipe, scale, data, home, split_seed, devices, start, pretrained, settings.teacher
        )
        with LocalProcesses(
            evaluator, jobs, prepare_worker, worker_imports(devices[0])
        ) as executor:
            results = retrain(chosen, executor, recipe.seeds, on_end, say, measure)
        test_images = len(source.members["test"].rows)
        facts |= {"folder": home.name, "test_images": test_images}
        return write_retrained(folder, results, facts)


def retrain(
    chosen: Sequence[Entrant],
    executor: Executor,
    seeds: int,
    on_end: OnEnd = _quiet,
    say: Callable[[str], None] = lambda _line: None,
    measure: Measure = measure,
) -> list[Retrained]:
    """Train every entrant with every seed, seed by seed, and gather the test accuracies.

    A network that stands beside several others is trained once. The results go without trainings
    that failed, and without the rivals of a candidate that has none.

    Args:
        executor: of a `FinalTraining`; what it has on disk is not trained again.
        on_end: called whenever a training has ended.
        say: called with what failed.
        measure: the costs of a network.

    Raises:
        EvaluationError: every training of the candidates failed.
    """
    distinct: dict[str, Entrant] = {}
    for entrant in chosen:
        distinct.setdefault(entrant.architecture.fingerprint, entrant)
    tasks = [(entrant, seed) for seed in range(seeds) for entrant in distinct.values()]
    ended: dict[tuple[str, int], Evaluation] = {}
    work = [Task(e.architecture, seed, origin=e.family) for e, seed in tasks]
    for finished in settled(executor, work):
        entrant, seed = tasks[finished.ticket]
        if finished.outcome is None:
            say(
                f"{entrant.name}, seed {seed}: {finished.error}; the results go without it, and "
                "the same command tries it again"
            )
            continue
        evaluation = finished.outcome.evaluation
        ended[entrant.architecture.fingerprint, seed] = evaluation
        on_end(entrant.name, seed, evaluation.accuracy)
    results: list[Retrained] = []
    for entrant in chosen:  # a candidate comes before its rivals
        key = entrant.architecture.fingerprint
        evaluations = [ended[key, seed] for seed in range(seeds) if (key, seed) in ended]
        lonely = entrant.rival_of not in [None, *(each.name for each in results)]
        if not evaluations or lonely:
            continue
        results.append(_retrained(entrant, evaluations, measure))
    if not results:
        raise EvaluationError("every training of the candidates failed")
    return results


def _retrained(entrant: Entrant, evaluations: Sequence[Evaluation], measure: Measure) -> Retrained:
    network = entrant.architecture
    kept = [e.predictions for e in evaluations if e.predictions is not None]
    return Retrained(
        name=entrant.name,
        family=entrant.family,
        fingerprint=network.fingerprint,
        alpha=network.alpha,
        resolution=network.resolution,
        costs=measure(network),
        proxy_accuracy=entrant.proxy_accuracy,
        seeds=tuple(e.seed for e in evaluations),
        accuracies=tuple(e.accuracy for e in evaluations),
        pixels=evaluations[0].pixels,
        seconds=sum(e.seconds for e in evaluations),
        rival_of=entrant.rival_of,
        architecture=network,
        predictions=tuple(kept) if len(kept) == len(evaluations) else (),
    )
