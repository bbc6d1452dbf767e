"""A whole run: search a space on images, and write the study and its result files."""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from mbsearch.analysis.findings import findings_of
from mbsearch.analysis.seed_table import seed_frame
from mbsearch.config.proxy_settings import data_title
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
from mbsearch.evaluation import Scoring, by_evaluator, by_table, by_training
from mbsearch.execution.local import Executor, LocalProcesses
from mbsearch.execution.main_module import exit_if_imported_by_worker
from mbsearch.latency.model import LatencyModel
from mbsearch.progress import OnProgress, ignore_progress
from mbsearch.report.result_files import write_results
from mbsearch.search.driver import Driver, OnTrial, ignore_trial
from mbsearch.search.estimates import Estimates
from mbsearch.search.factory import SAMPLERS, make_sampler, unknown_sampler
from mbsearch.search.grid import GRID, adapted, grid_networks, require_unpruned
from mbsearch.search.pilot import PILOT, Pilot, run_pilot
from mbsearch.search.references import (
    chosen_references,
    missing_references,
    typical_reference,
    with_questions,
)
from mbsearch.space.library import paper_names, space_names
from mbsearch.space.template import Params
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.atomic_files import deferring, write_atomically
from mbsearch.study.identity import IDENTITY, Identity, difference, scoring_identity, with_defaults
from mbsearch.study.images_record import IMAGES, ImagesRecord, KnownImages
from mbsearch.study.latency_setting import MODEL_KEY
from mbsearch.study.opening import drive, existing_study
from mbsearch.study.progress_file import published_progress
from mbsearch.study.records import TrialRecord, complete
from mbsearch.study.store import BUDGETS, DONOR, StudyStore, restarted
from mbsearch.study.writable import require_writable

if TYPE_CHECKING:
    from mbsearch.execution.protocol import Evaluator
    from mbsearch.training.pretrained import Pretrained

SEEDS = "seeds.csv"
"""File of a study: mean accuracies of its networks over several seeds."""
SKIPPED = "skipped_images.txt"
"""File of a study: image files that were left out as damaged, with the reason."""

_MOST_LISTED = 6  # resolutions or gaps, in the plan of a run

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run.

    Args:
        folder: folder of the study's files.
        records: records of all trials.
        exhausted: whether every network of the space within the limits has been tried.
        identity: identity of the study.
        unpromoted: the share of the work that promotion needs, if it is above the share given.
    """

    folder: Path
    records: list[TrialRecord]
    exhausted: bool
    identity: Identity
    unpromoted: float | None = None


class UnwrittenResultsError(StorageError):
    """The search has ended, but some results could not be written.

    Args:
        failures: at least one.
        result: of the run.
    """

    def __init__(self, failures: Sequence[StorageError], result: RunResult) -> None:
        super().__init__("; ".join(map(str, failures)))
        self.result = result


@dataclass(frozen=True, slots=True)
class _Workers:
    """Options for the workers: their number, and the Ray cluster if there is one."""

    jobs: int | None
    ray: str | None
    gpus_per_trial: float

    def executor(self, scoring: Scoring) -> Executor:
        """Return an executor on this machine or on a Ray cluster."""
        if self.ray is None:
            return LocalProcesses(
                scoring.evaluator, self.jobs or scoring.jobs(), scoring.prepare, scoring.imports()
            )
        from mbsearch.execution.ray import RayCluster

        return RayCluster(
            scoring.evaluator,
            self.ray,
            gpus_per_trial=self.gpus_per_trial,
            jobs=self.jobs,
            prepare=scoring.prepare,
        )


def run(
    space: SearchSpecification,
    *,
    trials: int | None,
    folder: Path,
    storage: str | None = None,
    data: str | None = None,
    table: Path | None = None,
    evaluator: Evaluator | None = None,
    latency_from: Path | None = None,
    minutes: float | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    gpus_per_trial: float = 0.0,
    sampler: str = "cost-aware",
    seeds: int = 1,
    seed: int = 0,
    device: str | None = None,
    skip_damaged: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress = ignore_progress,
    on_trial: OnTrial = ignore_trial,
) -> RunResult:
    """Run a search by proxy trainings, or resume it if the study exists.

    An interrupted run resumes by the same call. More trials extend a study. When the run ends or is
    interrupted, the result files are written, with the predicted accuracies.

    Args:
        space: to search.
        trials: number of networks of the space that the study trains in all; references are not
            counted. None for no limit.
        folder: folder of the study's files, and of the study itself unless `storage` is given.
        storage: URL of a PostgreSQL database that holds the study, under the folder's name.
        data: images (a folder or a name); None for the space's `proxy.data`.
        table: a file of accuracies to look up instead of training, without references.
        evaluator: scores networks instead of the proxy.
        latency_from: a device's table of times, or its latency model; None measures this machine.
        minutes: hard limit on the run's time; running trainings are left to the next run.
        jobs: worker processes; None for one a core, four on a GPU, or the cluster's number.
        ray: address of a Ray cluster that trains, instead of this machine.
        gpus_per_trial: share of a GPU that a training on the cluster occupies.
        sampler: name of the sampler; ``grid`` trains every network of the space.
        seeds: trainings of each network, with the sampler ``grid``.
        seed: seed of the sampler, the split and the trainings.
        device: ``cpu``, ``cuda``, ``mps``; None selects the best one available.
        skip_damaged: leave out image files that cannot be read; by default they are an error.
        dry_run: log the plan of the run, and stop before it starts.
        on_progress: receives every progress event.
        on_trial: receives the record of each completed, pruned or failed trial.

    Raises:
        SpecError: no network of the space is within the limits.
        DataError: the images cannot be used.
        StorageError: the study is busy, damaged, not writable, or was made by other settings.
        ClusterError: the Ray cluster cannot be used, or is gone.
    """
    exit_if_imported_by_worker()
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    workers = _Workers(jobs, ray, gpus_per_trial)
    _check_options(trials, minutes, workers, sampler, seeds)
    if not dry_run:
        require_writable(folder, "--results names another folder")
    known = _stored_settings(folder, storage)
    space = adapted(_as_stored(space, folder, known), sampler)
    if table is not None:
        scoring = by_table(space, table)
    elif evaluator is not None:
        scoring = by_evaluator(space, evaluator)
    else:
        if ray is None:
            _check_device(device)
        scoring = by_training(
            space,
            data or space.settings.proxy.data,
            seed,
            device,
            folder,
            skip_damaged=skip_damaged,
            known=KnownImages.of(known),
            on_progress=on_progress,
        )
    space = scoring.space
    device_model = None if latency_from is None else _device_model(space, latency_from)
    feasible = require_feasible(replace(space, settings=space.settings.exact))
    trials = _grid_trials(space, seeds) if sampler == GRID else trials
    for line in (*scoring.facts, *_plan_lines(scoring, trials, jobs or scoring.jobs())):
        _LOGGER.info(line)
    if dry_run:
        return RunResult(folder, [], exhausted=False, identity=_identity(scoring, seed))
    images = _cached_images(scoring, on_progress, decode=ray is None)
    with (
        drive(folder, space.name, storage) as (store, still_held),
        published_progress(folder, on_progress) as on_progress,
    ):
        study = _OpenStudy.opened(
            store, still_held, folder, scoring, seed, sampler, feasible, device_model
        )
        study.keep_images(images)
        study.log_start(trials)
        with closing(workers.executor(scoring)) as executor:
            if scoring.compile is not None and ray is None:
                scoring.compile()
            if scoring.train_shared is not None and not scoring.train_shared(
                study.space, deadline, on_progress
            ):
                return RunResult(
                    folder, study.store.records(), exhausted=False, identity=study.identity
                )
            study.store.keep_predictions({})  # predictions of an earlier run are outdated
            driver = study.driver(executor, trials, deadline, on_progress, on_trial, seeds)
            unwritten = study.run(driver, executor, predict=table is None)
            result = RunResult(
                folder, study.store.records(), driver.exhausted, study.identity, driver.unpromoted
            )
    if unwritten:
        raise UnwrittenResultsError(unwritten, result)
    return result


def _cached_images(
    scoring: Scoring, on_progress: OnProgress, *, decode: bool
) -> ImagesRecord | None:
    """Return the study's record of its images; with `decode`, also decode them into the cache.

    Returns:
        what the study records about them; None if the evaluator has no images.

    Raises:
        DataError: the cache is not writable, or an image cannot be read.
    """
    record = None if scoring.record_images is None else scoring.record_images(on_progress)
    if decode and scoring.prepare_images is not None:
        scoring.prepare_images(on_progress)
    return record


@dataclass(frozen=True, slots=True)
class _OpenStudy:
    """A study that is open for writing in this process.

    Args:
        store: storage of the trials.
        still_held: raises StorageError if another process may have taken the study over.
        folder: folder of the study's files.
        scoring: how the networks are scored.
        space: specification with every budget that the study answers.
        measure: costs of a network, with the latency if the study needs it.
        seed: seed of the sampler, the split and the trainings.
        identity: identity of the study.
    """

    store: StudyStore
    still_held: Callable[[], None]
    folder: Path
    scoring: Scoring
    space: SearchSpecification
    measure: Measure
    seed: int
    identity: Identity

    @staticmethod
    def opened(
        store: StudyStore,
        still_held: Callable[[], None],
        folder: Path,
        scoring: Scoring,
        seed: int,
        sampler: str,
        feasible: Params,
        device_model: LatencyModel | None,
    ) -> _OpenStudy:
        """Check the study's identity, store missing settings, and set its sampler.

        Raises:
            SpecError: no network of the space is within the limits.
            StorageError: the study was made by other settings, or has pruned trials and is to
                become a grid.
        """
        identity = _identity(scoring, seed)
        store = _with_identity(store, folder, identity)
        if sampler == GRID:
            require_unpruned(store, folder)
        model = _latency_model(store, scoring.space, seed, device_model)
        meter = measure if model is None else model.measure
        space = with_questions(scoring.space, meter)
        if model is not None:  # the other limits are checked already
            feasible = require_feasible(space, meter)
        _keep(store, folder, identity, space, model, scoring.pretrained)
        store.search.sampler = make_sampler(
            sampler,
            space,
            seed=seed,
            trials=len(store.search.get_trials(deepcopy=False)),
            measure=meter,
            feasible=feasible,
        )
        write_atomically(folder / "space.yaml", space.to_yaml())
        if scoring.skipped:
            skipped = "".join(f"{line}\n" for line in scoring.skipped)
            write_atomically(folder / SKIPPED, skipped)
        return _OpenStudy(store, still_held, folder, scoring, space, meter, seed, identity)

    def keep_images(self, record: ImagesRecord | None) -> None:
        """Store the record of the study's images, if there is one."""
        if record is not None and ImagesRecord.of(self.store.settings()) != record:
            self.store.search.set_user_attr(IMAGES, record.to_dict())

    def log_start(self, trials: int | None) -> None:
        """Log the number of completed trials, if there are any."""
        completed = self.store.ended_candidates()
        if trials is not None and completed >= trials:
            more = f"--trials {trials + 100} for more"
            _LOGGER.info(f"{completed} of {trials} trials are completed; {more}")
        elif completed:
            limit = "" if trials is None else f" of {trials}"
            _LOGGER.info(f"resuming: {completed}{limit} trials are completed")

    def driver(
        self,
        executor: Executor,
        trials: int | None,
        deadline: float,
        on_progress: OnProgress,
        on_trial: OnTrial,
        seeds: int,
    ) -> Driver:
        """Return the search's driver, with the screening epochs that the pilot chose, if it ran."""
        pilot = self._pilot(executor, trials)
        return Driver(
            self.store,
            self.space,
            executor,
            trials,
            self.seed,
            on_progress=on_progress,
            deadline=deadline,
            measure=self.measure,
            still_held=self.still_held,
            folder=self.folder,
            images=self.scoring.images,
            epochs=None if pilot is None else pilot.epochs,
            final_scale=self.scoring.final_scale,
            seeds=seeds,
            on_trial=on_trial,
        )

    def _pilot(self, executor: Executor, trials: int | None) -> Pilot | None:
        """Return the study's pilot, run now if missing; None if no pilot is needed."""
        space, proxy = self.space, self.space.settings.proxy
        wanted = space.settings.references == "auto" and proxy.evaluator == "training"
        if not wanted or "epochs" in proxy.model_fields_set:
            return None
        kept = self.store.settings().get(PILOT)
        if kept is not None:
            return Pilot.from_dict(kept)
        if self.store.ended_candidates():  # a study of a version without pilots
            return None
        references = chosen_references(space, self.measure)
        if not references:
            return None
        scoring, screenings = self.scoring, (trials or 0) + len(references)
        pilot = run_pilot(
            executor,
            typical_reference(space, references, self.measure),
            proxy,
            scoring.images.train,
            scoring.chance,
            self.seed,
            screenings / executor.slots,
        )
        self.store.search.set_user_attr(PILOT, pilot.to_dict())
        _LOGGER.info(pilot.sentence(scoring.space.settings.score))
        return pilot

    def run(self, driver: Driver, executor: Executor, *, predict: bool) -> list[StorageError]:
        """Search, then write the result files even after a failure; return the writing errors.

        Args:
            driver: of the search.
            executor: closed before the results are written, to free the cores.
            predict: also store the accuracies that a model of all trials predicts.
        """
        # The sampler's matrices are small, and the workers need the cores. With a BLAS thread a
        # core, a suggestion took three times as long.
        with threadpool_limits(1, user_api="blas"):
            try:
                driver.run()
            except BaseException:  # shown instead of errors in writing, which may follow from it
                executor.close()
                for failure in self._write_results(predict=predict):
                    _LOGGER.warning(str(failure))
                raise
            executor.close()
            return self._write_results(predict=predict)

    def _write_results(self, *, predict: bool) -> list[StorageError]:
        """Store predictions and write the result files; return the errors."""
        failures: list[StorageError] = []
        with deferring(failures):
            self.still_held()
        if failures:  # another process may write these files
            return failures
        if predict:
            estimates = Estimates(self.store, self.space, self.measure)
            with deferring(failures):
                self.store.keep_predictions(estimates.highest())
        records = self.store.records()
        if complete(records):
            findings = findings_of(records, self.store.settings())
            title = f"{self.space.name} on {data_title(self.scoring.data)}"
            failures += write_results(self.folder, findings, title, self.identity)
            repeats = self.store.repeats()
            if any(r.fingerprint in repeats and not r.is_baseline for r in records):
                with deferring(failures):
                    table = seed_frame(records, repeats).to_csv(index=False)
                    write_atomically(self.folder / SEEDS, table)
        return failures


def _grid_trials(space: SearchSpecification, seeds: int) -> int:
    """Return the number of networks of a grid search, and log its plan."""
    exact = space if space.settings.needs_latency else with_questions(space)
    trials = grid_networks(replace(exact, settings=exact.settings.exact), measure)
    each = "one training" if seeds == 1 else f"{seeds} trainings"
    _LOGGER.info(
        f"grid: {trials:,} networks with {each} each, without pruning, promotion and finals"
    )
    return trials


def _check_options(
    trials: int | None, minutes: float | None, workers: _Workers, sampler: str, seeds: int
) -> None:
    """Raise an error for invalid options, before anything is written."""
    if trials is not None and trials < 1:
        raise SpecError(f"trials: expected a number >= 1, got {trials}")
    if workers.jobs is not None and workers.jobs < 1:
        raise SpecError(f"jobs: expected a number >= 1, got {workers.jobs}")
    if workers.gpus_per_trial and workers.ray is None:
        raise SpecError("--gpus-per-trial: expected --ray with it, got none")
    if minutes is not None and not minutes > 0:
        raise SpecError(f"minutes: expected a number > 0, got {minutes:g}")
    if workers.ray is not None:
        import mbsearch.execution.ray  # noqa: F401  raises ClusterError without Ray
    if sampler not in SAMPLERS:
        raise unknown_sampler(sampler)
    if seeds < 1:
        raise SpecError(f"seeds: expected a number >= 1, got {seeds}")
    if sampler == GRID and trials is not None:
        raise SpecError(
            f"trials: expected none with the sampler {GRID}, which trains every network of the "
            f"space, got {trials}"
        )
    if sampler != GRID and seeds > 1:
        raise SpecError(f"seeds: expected 1 without the sampler {GRID}, got {seeds}")


def _check_device(device: str | None) -> None:
    """Raise an error if this machine has no such device, before anything is written."""
    if device is not None:
        from mbsearch.training.devices import choose_device

        choose_device(device)


def _stored_settings(folder: Path, storage: str | None) -> Mapping[str, Any]:
    """Return the user attributes of an existing study; none if there is no study yet."""
    study = existing_study(folder, storage)
    return {} if study is None else study.settings()


def _as_stored(
    space: SearchSpecification, folder: Path, known: Mapping[str, Any]
) -> SearchSpecification:
    """Return the specification with the space and weights of an existing study.

    If a packaged space has changed since, it is replaced by the stored one. Automatic weights
    become the study's.
    """
    kept, identity = known.get("space_yaml"), known.get(IDENTITY)
    if kept is None or identity is None:
        return space
    stored = read_specification(parse_document(kept, f"{folder}/space.yaml"))
    if space.settings.weights == AUTO:
        donor = identity.get("weights")
        weights = SCRATCH if donor is None else stored.settings.weights
        space = space.with_settings({"weights": weights})
    if space.name not in (*space_names(), *paper_names()):
        return space
    if load_specification(space.name).fingerprint != space.fingerprint:
        return space
    classes = stored.template.get("num_classes")
    given = space.with_classes(classes) if isinstance(classes, int) else space
    if stored.fingerprint == given.fingerprint:
        return space
    _LOGGER.warning(
        f"{folder}: the packaged space {space.name} has changed since; the stored one is used"
    )
    return stored.with_settings({"budgets": space.settings.budgets or stored.settings.budgets})


def _plan_lines(scoring: Scoring, trials: int | None, jobs: int) -> list[str]:
    """Return lines of text about a run's plan: budgets, references, trials and workers."""
    space, settings, lines = scoring.space, scoring.space.settings, []
    if scoring.photo_side is not None and (large := oversized(space, scoring.photo_side)):
        more = " ..." * (len(large) > _MOST_LISTED)
        lines.append(
            f"resolutions of the space above the photos' own {scoring.photo_side} pixels: "
            f"{', '.join(map(str, large[:_MOST_LISTED]))}{more}"
        )
    if not settings.needs_latency:  # a latency model is not measured before the run starts
        asked = with_questions(space)
        budgets = ", ".join(budget.label for budget in asked.settings.budgets)
        lines.append(f"budgets: {budgets or 'none; the whole front'}")
        if settings.references == "auto":
            families = "MobileNet V1, V2, V3-small"
            if scoring.weights is None:
                outside = missing_references(asked)
            else:  # references cannot inherit weights, so that the space need not contain them
                outside, families = [], f"{families}, the donor"
            lines.append(f"references: {len(chosen_references(asked))} ({families})")
            lines += [f"outside the space: {gap}" for gap in outside[:_MOST_LISTED]]
    finals = "no finals" if settings.finals.minutes == 0 else "then finals"
    if settings.finals.minutes:
        finals += f" of {settings.finals.minutes:g} min"
    if trials is not None:
        lines.append(f"trials: {trials:,} by {jobs} workers, {finals}")
    return lines


def _identity(scoring: Scoring, seed: int) -> Identity:
    """Return everything that a study's trials depend on."""
    settings = scoring.space.settings
    return {
        "data": scoring.place
        or scoring.data,  # named first in messages: other data change the space too
        **scoring_identity(scoring.space, scoring.key),
        "objectives": list(settings.objectives),
        "limits": settings.limits.model_dump(mode="json"),
        "promotion": settings.promotion.model_dump(mode="json", include={"longer"}),
        "seed": seed,
        "weights": scoring.weights,
        "teacher": None if scoring.weights is None else settings.teacher.model_dump(mode="json"),
    }


def _with_identity(store: StudyStore, folder: Path, identity: Identity) -> StudyStore:
    """Return the study, restarted if its identity differs and no trial has completed.

    The path of the images may differ.

    Raises:
        StorageError: a study with completed trials has another identity.
    """
    known = store.settings().get(IDENTITY)
    if known is None:
        return store
    old = {"promotion": identity["promotion"], **known}  # older versions did not store it
    if old["data_key"] == identity["data_key"]:
        old["data"] = identity["data"]
    if (what := difference(with_defaults(old), identity)) is None:
        return store
    if store.has_results():
        raise StorageError(
            f"{folder}: this study was made by other settings ({what}), and its trials are not "
            "comparable; use the same settings, or start another study with --name"
        )
    _LOGGER.warning(f"{folder}: no trial has completed; the study starts anew ({what})")
    return restarted(store)


def _keep(
    store: StudyStore,
    folder: Path,
    identity: Identity,
    space: SearchSpecification,
    model: LatencyModel | None,
    pretrained: Pretrained | None,
) -> None:
    """Store the study's settings; in an existing study, only those that may change."""
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
    if IDENTITY not in known:
        store.search.set_user_attr("versions", _versions())
        store.name_objectives(space.settings.score, space.settings.metric)
    if known.get(IDENTITY) != identity:
        store.search.set_user_attr(IDENTITY, identity)  # last: a study without it is incomplete
    if model is not None:
        if MODEL_KEY not in known:
            store.search.set_user_attr(MODEL_KEY, model.to_dict())
        model.write(folder)


def _device_model(space: SearchSpecification, path: Path) -> LatencyModel:
    """Return the latency model of a device, for a space that needs it.

    Raises:
        SpecError: the space does not need the latency, or the table has too few times.
        DataError: the table is invalid.
        StorageError: the model is damaged.
    """
    from mbsearch.latency.probe_times import read_device_model

    if not space.settings.needs_latency:
        raise SpecError(
            "--latency-from: expected latency as objective, limit or budget, got none; "
            "--objective latency makes it the objective"
        )
    model = read_device_model(path)
    _LOGGER.info(model.sentence())
    return model


def _latency_model(
    store: StudyStore, space: SearchSpecification, seed: int, device_model: LatencyModel | None
) -> LatencyModel | None:
    """Return the study's latency model; None if not needed.

    A new study has the given model of a device, else one that is fitted now.

    Raises:
        StorageError: the study has another model than the given one.
    """
    if not space.settings.needs_latency:
        return None
    kept = store.settings().get(MODEL_KEY)
    if kept is not None:
        model = LatencyModel.from_dict(kept)
        if device_model is not None and device_model.networks != model.networks:
            raise StorageError(
                f"{store.name}: expected the times of {model.setting}, with which the study began, "
                f"got others of {device_model.setting}; --name gives a new study"
            )
        return model
    if device_model is not None:
        return device_model
    from mbsearch.latency.fit import fit_latency

    return fit_latency(space, seed)


def _versions() -> dict[str, str]:
    """Return the versions of Python, mbsearch, torch, optuna and numpy."""
    packages = ("mbsearch", "torch", "optuna", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
