"""A whole run: a space, images and a results folder in; a study with its files out."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from mbsearch.analysis.answer import findings_of
from mbsearch.config.settings import AUTO, SCRATCH
from mbsearch.config.specification import (
    SearchSpecification,
    load_specification,
    read_specification,
)
from mbsearch.config.survey import require_feasible
from mbsearch.cost import Measure, measure
from mbsearch.cost.coverage import oversized
from mbsearch.errors import SpecError, StorageError
from mbsearch.evaluation import (
    OnPreparation,
    Say,
    Scoring,
    by_table,
    by_training,
    ignore_preparation,
    say_nothing,
)
from mbsearch.execution.local import Executor, LocalProcesses
from mbsearch.latency.model import KEPT, LatencyModel
from mbsearch.report.files import write_results
from mbsearch.search.driver import Driver, Progress
from mbsearch.search.estimates import Estimates
from mbsearch.search.factory import SAMPLERS, make_sampler, unknown_sampler
from mbsearch.search.pilot import PILOT, Pilot, run_pilot
from mbsearch.search.references import chosen_references, missing_references, round_budgets
from mbsearch.space.library import space_names
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.atomic_files import write_whole
from mbsearch.study.identity import Stamp, difference, filled, scored_by
from mbsearch.study.lock import drive
from mbsearch.study.records import TrialRecord, complete
from mbsearch.study.store import BUDGETS, DONOR, StudyStore, read_study

if TYPE_CHECKING:
    from mbsearch.data.parallel import OnImages
    from mbsearch.training.pretrained import Pretrained

_MOST_LISTED = 6  # of a kind, before a run starts
SKIPPED = "skipped_images.txt"
"""File of a study's folder: image files that were left out as damaged, and why."""
UNLIMITED_TRIALS = 10**9
"""Of a search that is bounded by its time."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves: its folder, the study's records, and whether the space is used up.

    `stamp` is what the study is bound to, `unpromoted` the share of the work that promotion would
    have needed, where it was too much.
    """

    folder: Path
    records: list[TrialRecord]
    exhausted: bool
    stamp: Stamp
    unpromoted: float | None = None


def run(
    space: SearchSpecification,
    *,
    trials: int,
    folder: Path,
    storage: str | None = None,
    data: str | None = None,
    table: Path | None = None,
    minutes: float | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    gpus_per_trial: float = 0.0,
    sampler: str = "cost-aware",
    seed: int = 0,
    device: str | None = None,
    skip_damaged: bool = False,
    dry_run: bool = False,
    on_images: OnImages | None = None,
    on_start: Callable[[int, int], None] = lambda _done, _target: None,
    on_preparation: OnPreparation = ignore_preparation,
    say: Say = say_nothing,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RunResult:
    """Search a space by proxy trainings, the baselines first; go on where an earlier run stopped.

    A run that was interrupted is finished by the same one, and one of more trials extends it. At
    the end, and also when the run is interrupted, files are written, with
    the accuracy that a model of all trials predicts of each network.

    Args:
        trials: networks of the space that the study is to have trained in all; references come on
            top.
        folder: of the study's files, and of the study itself unless `storage` is given.
        storage: URL of a PostgreSQL database that holds the study, under the folder's name.
        data: images (a folder or a name); None takes the space's `proxy.data`.
        table: a file of known accuracies to look up instead of training; no baselines then.
        minutes: hard limit on the run's time; what is in flight then is left to the next run.
        jobs: worker processes; None takes one a core, on a GPU four that share it, or
            what a cluster has room for.
        ray: address of a Ray cluster that trains, instead of this machine.
        gpus_per_trial: share of a GPU that a training on the cluster occupies.
        seed: of the sampler, the split and the trainings.
        device: ``cpu``, ``cuda``, ``mps``; None takes the best that is there.
        skip_damaged: leave out image files that cannot be read, instead of refusing them.
        dry_run: stop after `say` has told what was read and what is planned.
        on_images: called while images are read, with what for, how many are done, and their number;
            None writes lines into the log.
        on_start: called once with the trials done and the target.
        on_preparation: called after every step of a training before the search, with what is
            trained, the steps done, their target and the mean loss of the last ones (nats).
        say: called with a line before something that takes its time, as compiling kernels for this
            machine or measuring latencies for a model of them, and with one of how good that is.
        on_progress: called whenever something changed.

    Raises:
        SpecError: no network of the space keeps the limits.
        DataError: the images cannot be used.
        StorageError: the study is busy, damaged, not writable, or was made by other settings.
        ClusterError: the Ray cluster cannot be used, or is gone.
    """
    started = time.monotonic()
    _check_numbers(trials, minutes, jobs, gpus_per_trial, ray)
    if ray is not None:
        import mbsearch.execution.ray  # noqa: F401  where Ray is missing, that is said first
    if sampler not in SAMPLERS:  # before anything is made
        raise unknown_sampler(sampler)
    space = _as_stored(space, folder, storage, say)
    if table is not None:
        scoring = by_table(space, table)
    else:
        if device is not None and ray is None:  # before anything is made
            from mbsearch.training.devices import choose_device

            choose_device(device)
        scoring = by_training(
            space,
            data or space.settings.proxy.data,
            seed,
            device,
            folder,
            skip_damaged=skip_damaged,
            on_images=on_images,
        )
    space = scoring.space
    keeps = require_feasible(replace(space, settings=space.settings.exact))
    for line in (*scoring.facts, *_plan_lines(scoring, trials, jobs or scoring.jobs())):
        say(line)
    if dry_run:
        return RunResult(folder, [], exhausted=False, stamp=_stamp(scoring, seed))
    with drive(folder, space.name, storage) as (store, still_held):
        stamp = _stamp(scoring, seed)
        _check_stamp(store, folder, stamp)
        model = _latency_model(store, space, seed, say)
        meter = measure if model is None else model.measure
        space = with_questions(space, meter)
        if model is not None:  # the other limits have been looked at
            keeps = require_feasible(space, meter)
        _keep(store, folder, stamp, space, model, scoring.pretrained)
        store.search.sampler = make_sampler(
            sampler,
            space,
            seed=seed,
            trials=len(store.search.get_trials(deepcopy=False)),
            measure=meter,
            feasible=keeps,
        )
        write_whole(folder / "space.yaml", space.to_yaml())
        if scoring.skipped:
            write_whole(folder / SKIPPED, "".join(f"{line}\n" for line in scoring.skipped))
        if scoring.prepare_images is not None and ray is None:
            scoring.prepare_images(on_images)
        on_start(_done(store), trials)
        deadline = math.inf if minutes is None else started + 60 * minutes
        with closing(_executor(scoring, jobs, ray, gpus_per_trial)) as executor:
            if scoring.compile is not None and ray is None:
                scoring.compile(say)
            if scoring.train_shared is not None and not scoring.train_shared(
                space, deadline, on_preparation, say
            ):
                return RunResult(folder, store.records(), exhausted=False, stamp=stamp)

            store.expect({})  # what an earlier run expected does not know the trials to come
            pilot = _pilot(store, space, scoring, executor, meter, seed, say)
            driver = Driver(
                store,
                space,
                executor,
                trials,
                seed,
                on_progress,
                deadline,
                meter,
                still_held,
                folder,
                scoring.images,
                None if pilot is None else pilot.epochs,
                say,
                final_scale=scoring.final_scale,
            )
            # The sampler's matrices are small, and the workers need the cores: with a thread for
            # each, a suggestion took three times as long.
            with threadpool_limits(1, user_api="blas"):
                try:
                    driver.run()
                finally:
                    executor.close()  # what follows has use for the cores
                    still_held()
                    if table is None:  # a table has no luck to be free of
                        store.expect(Estimates(store, space, meter).highest())
                    records = store.records()
                    if complete(records):
                        findings = findings_of(records, store.settings())
                        write_results(folder, findings, f"{space.name} on {scoring.data}")
    return RunResult(folder, records, driver.exhausted, stamp, driver.unpromoted)


def _check_numbers(
    trials: int, minutes: float | None, jobs: int | None, gpus_per_trial: float, ray: str | None
) -> None:
    if trials < 1:
        raise SpecError(f"trials: expected a number >= 1, got {trials}")
    if jobs is not None and jobs < 1:
        raise SpecError(f"jobs: expected a number >= 1, got {jobs}")
    if gpus_per_trial and ray is None:
        raise SpecError("--gpus-per-trial: expected --ray with it, got none")
    if minutes is not None and not minutes > 0:
        raise SpecError(f"minutes: expected a number > 0, got {minutes:g}")


def _as_stored(
    space: SearchSpecification, folder: Path, storage: str | None, say: Say
) -> SearchSpecification:
    """The space given, as far as a study that is there leaves it open.

    Of a packaged space that has changed since, it is the stored one. Weights that are chosen by the
    images are those of the study.
    """
    try:
        known = read_study(folder, storage).settings()
    except StorageError:  # there is no study yet, or opening it for writing says what is wrong
        return space
    kept, stamp = known.get("space_yaml"), known.get("stamp")
    if kept is None or stamp is None:
        return space
    stored = read_specification(parse_document(kept, f"{folder}/space.yaml"))
    if space.settings.weights == AUTO:
        donor = stamp.get("weights")
        weights = SCRATCH if donor is None else stored.settings.weights
        space = space.with_settings({"weights": weights})
    if space.name not in space_names():
        return space
    if load_specification(space.name).fingerprint != space.fingerprint:
        return space
    classes = stored.template.get("num_classes")
    given = space.with_classes(classes) if isinstance(classes, int) else space
    if stored.fingerprint == given.fingerprint:
        return space
    say(f"{folder}: the packaged space {space.name} has changed since; the stored one goes on")
    return stored.with_settings({"budgets": space.settings.budgets or stored.settings.budgets})


def _executor(
    scoring: Scoring, jobs: int | None, ray: str | None, gpus_per_trial: float
) -> Executor:
    if ray is None:
        return LocalProcesses(
            scoring.evaluator, jobs or scoring.jobs(), scoring.prepare, scoring.imports()
        )
    from mbsearch.execution.ray import RayCluster

    return RayCluster(
        scoring.evaluator,
        ray,
        gpus_per_trial=gpus_per_trial,
        jobs=jobs,
        prepare=scoring.prepare,
    )


def _done(store: StudyStore) -> int:
    """Search trials that have ended."""
    return sum(not r.is_baseline and r.ended is not None for r in store.records())


def _plan_lines(scoring: Scoring, trials: int, jobs: int) -> list[str]:
    """What a run will do, in lines of text: budgets, references, trainings, workers."""
    space, settings, lines = scoring.space, scoring.space.settings, []
    if scoring.photo_side is not None and (large := oversized(space, scoring.photo_side)):
        more = " ..." * (len(large) > _MOST_LISTED)
        lines.append(
            f"resolutions above the photos' own {scoring.photo_side} pixels: "
            f"{', '.join(map(str, large[:_MOST_LISTED]))}{more}"
        )
    if not settings.needs_latency:  # else they follow from a model that has to be measured first
        asked = with_questions(space)
        budgets = ", ".join(budget.label for budget in asked.settings.budgets)
        lines.append(f"budgets: {budgets or 'none; the whole front'}")
        if settings.references == "auto":
            families = "MobileNet V1, V2, V3-small"
            if scoring.weights is None:
                outside = missing_references(asked)
            else:  # a space of what can inherit does not hold them, and need not
                outside, families = [], f"{families}, the donor"
            lines.append(f"references: {len(chosen_references(asked))} ({families})")
            lines += [f"outside the space: {gap}" for gap in outside[:_MOST_LISTED]]
    finals = "no finals" if settings.finals.minutes == 0 else "then finals"
    if settings.finals.minutes:
        finals += f" of {settings.finals.minutes:g} min"
    if trials < UNLIMITED_TRIALS:
        lines.append(f"trials: {trials:,} by {jobs} workers, {finals}")
    return lines


def with_questions(space: SearchSpecification, measure: Measure = measure) -> SearchSpecification:
    """The space with every budget that its study answers.

    These are the budgets given, else all limits together, else round budgets where references are
    trained, else none.
    """
    settings = space.settings
    budgets = settings.questions
    if not budgets and settings.references == "auto":
        budgets = round_budgets(space, measure)
    return space.with_settings({"budgets": budgets})


def _pilot(
    store: StudyStore,
    space: SearchSpecification,
    scoring: Scoring,
    executor: Executor,
    meter: Measure,
    seed: int,
    say: Say,
) -> Pilot | None:
    """The study's pilot, made where it has none; None if the length of a screening is given."""
    proxy = space.settings.proxy
    wanted = space.settings.references == "auto" and proxy.evaluator == "training"
    if not wanted or "epochs" in proxy.model_fields_set:
        return None
    kept = store.settings().get(PILOT)
    if kept is not None:
        return Pilot.from_dict(kept)
    if _done(store):  # of a version without pilots
        return None
    references = chosen_references(space, meter)
    if not references:
        return None
    cheapest = min((n for _, n in references), key=lambda n: meter(n)[space.settings.metric])
    pilot = run_pilot(executor, cheapest, proxy, scoring.images.train, scoring.chance, seed)
    store.search.set_user_attr(PILOT, pilot.to_dict())
    say(pilot.sentence())
    return pilot


def _stamp(scoring: Scoring, seed: int) -> Stamp:
    """What a study is bound to."""
    settings = scoring.space.settings
    return {
        "data": scoring.data,  # before the space, which has as many classes
        **scored_by(scoring.space, scoring.key),
        "objectives": list(settings.objectives),
        "limits": settings.limits.model_dump(mode="json"),
        "promotion": settings.promotion.model_dump(mode="json", include={"longer"}),
        "seed": seed,
        "weights": scoring.weights,
        "teacher": None if scoring.weights is None else settings.teacher.model_dump(mode="json"),
    }


def _check_stamp(store: StudyStore, folder: Path, stamp: Stamp) -> None:
    """A study that is there must bear the same stamp, but for the path to the same images."""
    known = store.settings().get("stamp")
    if known is None:
        return
    old = {"promotion": stamp["promotion"], **known}  # which an older version did not keep
    if old["data_key"] == stamp["data_key"]:
        old["data"] = stamp["data"]
    if (what := difference(filled(old), stamp)) is not None:
        raise StorageError(
            f"{folder}: this study was made by other settings ({what}), and its trials would not "
            "be comparable; go back to them, or start another study with --name"
        )


def _keep(
    store: StudyStore,
    folder: Path,
    stamp: Stamp,
    space: SearchSpecification,
    model: LatencyModel | None,
    pretrained: Pretrained | None,
) -> None:
    """Write down what a study is made of; of one that is there what may change."""
    known, text = store.settings(), space.to_yaml()
    if known.get("space_yaml") != text:
        store.search.set_user_attr("space_yaml", text)
    budgets = [
        budget.model_dump(mode="json", exclude_none=True) for budget in space.settings.budgets
    ]
    if known.get(BUDGETS, []) != budgets:
        store.search.set_user_attr(BUDGETS, budgets)
    if pretrained is not None and DONOR not in known:
        store.search.set_user_attr(DONOR, pretrained.donor.facts())
    if "stamp" not in known:
        store.search.set_user_attr("versions", _versions())
        store.name_objectives(space.settings.metric)
    if known.get("stamp") != stamp:
        store.search.set_user_attr("stamp", stamp)  # last: with it, the study is whole
    if model is not None:
        if KEPT not in known:
            store.search.set_user_attr(KEPT, model.to_dict())
        write_whole(folder / f"{KEPT}.json", json.dumps(model.to_dict(), indent=1))


def _latency_model(
    store: StudyStore, space: SearchSpecification, seed: int, say: Say
) -> LatencyModel | None:
    """The study's model of latency, fitted on this machine where it has none; None if unneeded."""
    if not space.settings.needs_latency:
        return None
    kept = store.settings().get(KEPT)
    if kept is not None:
        return LatencyModel.from_dict(kept)
    from mbsearch.latency.fit import fit_latency

    return fit_latency(space, seed, say)


def _versions() -> dict[str, str]:
    packages = ("mbsearch", "torch", "optuna", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
