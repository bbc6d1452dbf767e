"""The driver: the one process that asks, tells and writes; workers only train.

What is to do is always derived from the storage, so a killed driver's successor finds the same
work: first the trials that were in flight, then the baselines, then the repeats that measure the
noise, then new candidates until the target, then longer trainings of the best. Finals keep pace
with the candidates from FIRST_FINAL of the search on, and have the rest of their time at the end.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import fmean
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from mbsearch.config.settings import Racing
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure, measure
from mbsearch.cost.units import amount
from mbsearch.errors import SpecError, StorageError
from mbsearch.execution.local import Executor, Finished
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.search.estimates import Estimates, denoised_promotions
from mbsearch.search.factory import distributions
from mbsearch.search.finals import FIRST_FINAL, PLAN, FinalRounds, Plan
from mbsearch.search.pending import (
    MAX_ATTEMPTS,
    Job,
    begin_again,
    fail,
    find_promotions,
    interrupted,
    missing_baselines,
)
from mbsearch.search.promotion import Promotions
from mbsearch.search.racing import Race
from mbsearch.search.sampler.observations import ANCHORS, FINALS, PARTIAL_ACCURACY, PROMOTED
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import DONORS
from mbsearch.study.final_files import FinalFiles, write_bytes_whole
from mbsearch.study.records import SEARCH, Evaluation, Fidelity, State, TrialRecord, complete
from mbsearch.study.store import StudyStore, fidelity_of, new_record, objectives

FREE_ASKS = 50  # suggestions in a row that need no training before the driver draws itself
RANDOM_DRAWS = 2_000
EPOCHS_DONE = "epochs_done"
"""User attribute of a final that runs: the epochs in its checkpoint."""
ENUMERATE_UP_TO = 20_000

_LOGGER = logging.getLogger(__name__)
_TRAININGS = {Fidelity.SCREENING: "", Fidelity.PROMOTION: ", promotion", Fidelity.FINAL: ", final"}


@dataclass(frozen=True, slots=True)
class Images:
    """How many images trainings see: of the training split, and of the validation split."""

    train: int = 1
    validation: int = 1


@dataclass
class Driver:
    """Runs one study towards a number of search trials.

    `folder` keeps checkpoints and weights of finals. `epochs` is the length of a screening, None
    for the recipe's.
    """

    store: StudyStore
    space: SearchSpecification
    executor: Executor
    target: int | None  # None for no limit
    seed: int
    on_progress: OnProgress = ignore_progress
    deadline: float = math.inf  # on time.monotonic's clock
    measure: Measure = measure
    still_held: Callable[[], None] = lambda: None  # raises where another driver may have the study
    folder: Path = Path()
    images: Images = Images()
    epochs: int | None = None
    _jobs: dict[int, Job] = field(default_factory=dict)
    _ticket: int = 0
    _next_trial: int = 0
    _begun: int = 0  # search trials that were trained, or are in flight
    _completed: int = 0  # trainings of this run, for the display
    _tried: dict[str, int] = field(default_factory=dict)
    _distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    _exhausted: bool = False
    _race: Race = field(default_factory=lambda: Race(Racing()))
    _promotions: Promotions | None = None  # once the search has ended
    _promoting: bool = False
    final_scale: float = 1.0
    _finals: FinalRounds = field(init=False)
    _started: float = field(default_factory=time.monotonic)
    _search_until: float = math.inf

    def run(self) -> None:
        """Work until the target is reached or the space is exhausted; ends with nothing in flight.

        An exception, a Ctrl-C, and the deadline leave the trials in flight to the next run.

        Raises:
            DataError: the images cannot be used.
            StorageError: the study's storage, or a file that workers need, cannot be used.
        """
        self._distributions = distributions(self.space)
        orphans = interrupted(self.store)
        for job in orphans:
            if job.fidelity is Fidelity.FINAL:
                job.checkpoint, job.epochs_done = self._kept_checkpoint(job)
        self._recall()
        self._race = self._start_race()
        references = missing_baselines(self.store, self.space, self.measure)
        self._finals = self._recall_finals()
        self._tell_sampler()  # a driver may have been killed before it did
        now, share = time.monotonic(), self.space.settings.promotion.share
        for_search = (self.deadline - now) * (1 - share)
        if self._finals.enabled and math.isfinite(self.deadline):
            given = self.space.settings.finals.minutes
            most = for_search / 2
            for_search -= most if given is None else min(60 * given, most)
        self._started, self._search_until = now, now + for_search
        try:
            self._work(orphans, references)
        finally:
            with suppress(StorageError):  # otherwise it is what ends the run
                self.still_held()
                self._spare()

    def _work(
        self,
        orphans: list[Job],
        references: list[tuple[str, Architecture, bool]],
    ) -> None:
        """Keep the workers busy until nothing is left to do, or the time is up."""
        while time.monotonic() < self.deadline:
            while len(self._jobs) < self.executor.slots:
                job = self._next(orphans, references)
                if job is None:
                    break
                self._submit(job)
            if not self._jobs:
                return
            self._report(len(references))
            left = self.deadline - time.monotonic()
            ended = self.executor.wait(timeout=max(0.0, min(1.0, left)))
            self.still_held()  # a machine may have slept while it waited
            for finished in sorted(ended, key=lambda each: each.trouble is not None):
                self._tell(finished, len(references))

    def _spare(self) -> None:
        """Not count what is in flight as tried: its run is ended, it was not killed."""
        for job in self._jobs.values():
            self.store.set_attr(job.study, job.number, "attempts", job.attempts - 1)

    @property
    def exhausted(self) -> bool:
        """Whether every network of the space that keeps the limits has been tried."""
        return self._exhausted

    @property
    def unpromoted(self) -> float | None:
        """The share of the work that promotion needs, where that is more than it was to have."""
        if self._promotions is None or self._promoting or not self._promotions.settings.share:
            return None
        return self._promotions.needed

    def _next(
        self, orphans: list[Job], references: list[tuple[str, Architecture, bool]]
    ) -> Job | None:
        """What is to be trained next; None where nothing is, or not before others have ended."""
        if orphans:
            return begin_again(self.store, orphans.pop(0))
        if references:
            return self._begin_baseline(*references.pop(0))
        if self._is_searching():
            if (final := self._due_final(self._progress())) is not None:
                return final
            if (job := self._ask()) is not None:
                return job
        if self._promotions is None:
            if self._jobs:  # what they find may belong to the front
                return None
            self._promotions = find_promotions(self.store, self.space)
            self._promoting = self._promotions.affordable
            if self._promoting:
                estimates = Estimates(self.store, self.space, self.measure)
                self._promotions.expect(estimates.short(self._promotions.records))
        due = self._promotions.next() if self._promoting else None
        if due is not None:
            return self._begin_promotion(self._promotions, *due)
        return self._due_final(progress=1.0)

    def _is_searching(self) -> bool:
        """Whether candidates are still wanted: the last share of a run's time is for the best."""
        if self._promotions is not None or self._exhausted:
            return False
        if self.target is not None and self._begun >= self.target:
            return False
        if time.monotonic() < self._search_until:
            return True
        return not self._finals.enabled and not find_promotions(self.store, self.space).affordable

    def _progress(self) -> float:
        """Share of the search that has ended: of its trials, or of its time where that is more."""
        searching = sum(job.study is self.store.search for job in self._jobs.values())
        target = math.inf if self.target is None else max(1, self.target)
        of_trials = (self._begun - searching) / target
        whole = self._search_until - self._started
        of_time = (time.monotonic() - self._started) / whole if math.isfinite(whole) else 0.0
        return min(1.0, max(of_trials, of_time))

    def _due_final(self, progress: float) -> Job | None:
        """A final training that is due after this share of the search; None if none is."""
        rounds = self._finals
        if not rounds.enabled or progress < FIRST_FINAL:
            return None
        records = self.store.records()
        if not complete(records):
            return None
        if rounds.needs_plan:
            rounds.make_plan(records, progress, self.executor.slots)
            assert rounds.plan is not None
            self.store.search.set_user_attr(PLAN, rounds.plan.to_dict())
            _LOGGER.info(rounds.plan.sentence(rounds.budgets))
        record = rounds.next(records, progress)
        return None if record is None else self._begin_final(record)

    def _begin_final(self, of: TrialRecord) -> Job:
        assert self._finals.plan is not None
        self._finals.take_up(of, None)
        epochs = {"epochs": self._finals.plan.epochs}
        return self._begin_longer(of, Fidelity.FINAL, self.seed + of.trial, more=epochs)

    def _begin_longer(
        self,
        of: TrialRecord,
        fidelity: Fidelity,
        seed: int,
        *,
        repeat: bool = False,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> Job:
        """Begin a longer training of a record's network; `more` is kept beside its record."""
        study = self.store.baselines
        data = new_record(
            of.trial,
            of.origin,
            of.architecture,
            of.costs,
            of.params,
            seed=seed,
            metric=of.metric,
            repeat=repeat,
            fidelity=fidelity,
        )
        data |= more
        number = study.ask().number
        self.store.set_attr(study, number, "record", data)
        return Job(study, number, data, of.architecture)

    def _recall_finals(self) -> FinalRounds:
        """The finals of a study as earlier runs left them."""
        settings, plan = self.space.settings.finals, self.store.settings().get(PLAN)
        rounds = FinalRounds(
            settings,
            self.space.settings.budgets,
            self.images.train,
            lambda epochs: (
                fmean(settings.pixel_scale(e, epochs) ** 2 for e in range(epochs))
                * self.final_scale**2
            ),
            self._promising,
            None if plan is None else Plan.from_dict(plan),
        )
        known = {r.trial: r for r in self.store.records()}
        for trial in self.store.baselines.get_trials(deepcopy=False):
            record = known.get(trial.user_attrs.get("record", {}).get("trial"))
            if record is None or fidelity_of(trial) is not Fidelity.FINAL:
                continue
            kept = trial.user_attrs.get("evaluation")
            rounds.take_up(record, None if kept is None else Evaluation.from_dict(kept))
            if trial.state is TrialState.FAIL:
                rounds.fail(record.trial)
        return rounds

    def _promising(self, budget: int, begun: Collection[int]) -> TrialRecord | None:
        """The candidate within a budget that deserves the final training next."""
        estimates = Estimates(self.store, self.space, self.measure)
        return estimates.finalist(self.store.records(), budget, begun)

    def _files(self, job: Job) -> tuple[Path, Path]:
        """Checkpoint and weights of a final."""
        files = FinalFiles(self.folder)
        identity = job.architecture.fingerprint, job.record["seed"]
        return files.checkpoint(*identity), files.weights(*identity)

    def _kept_checkpoint(self, job: Job) -> tuple[bytes | None, int]:
        """What an interrupted final resumes from, and the epochs that it has trained."""
        checkpoint, _ = self._files(job)
        if not checkpoint.is_file():
            return None, 0
        trial = job.study.get_trials(deepcopy=False)[job.number]
        return checkpoint.read_bytes(), trial.user_attrs.get(EPOCHS_DONE, 0)

    def _recall(self) -> None:
        """Take up what the storage knows: networks, and the next trial's number."""
        for study in (self.store.baselines, self.store.search):
            for trial in study.get_trials(deepcopy=False):
                data = trial.user_attrs.get("record")
                if data is not None:
                    # A repeat of a longer training has another network's number, but its own seed.
                    last = max(data["trial"], data["seed"] - self.seed)
                    self._next_trial = max(self._next_trial, last + 1)
                    self._begun += study is self.store.search
                    if study is self.store.search or trial.state is not TrialState.FAIL:
                        self._tried.setdefault(data["fingerprint"], data["trial"])

    def _start_race(self) -> Race:
        """Every whole curve of the study so far."""
        settings = self.space.settings
        race = Race(settings.racing, bool(settings.budgets) and settings.finals.minutes != 0)
        for record in complete(self.store.records()):
            if record.evaluation is not None:
                race.add(record.cost, record.evaluation.curve)
        return race

    def _begin_baseline(self, name: str, architecture: Architecture, repeat: bool) -> Job:
        trial = self.store.baselines.ask()
        return self._begin(self.store.baselines, trial.number, name, architecture, {}, repeat)

    def _begin_promotion(self, promotions: Promotions, of: TrialRecord, repeat: bool) -> Job:
        seed = self.seed + of.trial
        if repeat:
            seed, self._next_trial = self.seed + self._next_trial, self._next_trial + 1
        promotions.begin(of, repeat)
        return self._begin_longer(of, Fidelity.PROMOTION, seed, repeat=repeat)

    def _begin(
        self,
        study: optuna.Study,
        number: int,
        origin: str,
        architecture: Architecture,
        params: Mapping[str, Any],
        repeat: bool = False,
    ) -> Job:
        record = new_record(
            self._next_trial,
            origin,
            architecture,
            self.measure(architecture),
            params,
            seed=self.seed + self._next_trial,
            metric=self.space.settings.metric,
            repeat=repeat,
        )
        self.store.set_attr(study, number, "record", record)
        self._tried.setdefault(architecture.fingerprint, self._next_trial)
        self._next_trial += 1
        self._begun += study is self.store.search
        return Job(study, number, record, architecture)

    def _ask(self) -> Job | None:
        """The next candidate worth training; None when there is none left."""
        for _ in range(FREE_ASKS):
            trial = self.store.search.ask(self._distributions)
            params = self.space.canonical(trial.params)
            architecture = self.space.decode(params)
            skip = self._needs_no_training(architecture)
            if skip is None:
                return self._begin(self.store.search, trial.number, SEARCH, architecture, params)
            self.store.set_attr(self.store.search, trial.number, "skipped", skip)
            self.store.search.tell(trial.number, state=TrialState.PRUNED)
        return self._draw()

    def _draw(self) -> Job | None:
        """A new network that the driver finds itself, since the sampler repeats itself."""
        if self.space.size <= ENUMERATE_UP_TO:
            candidates = self.space.enumerate_params()
        else:
            rng = Random(f"{self.seed}/{self._next_trial}")
            candidates = (self.space.sample_params(rng) for _ in range(RANDOM_DRAWS))
        for params in candidates:
            architecture = self.space.decode(params)
            if self._needs_no_training(architecture) is None:
                self.store.search.enqueue_trial(self.space.complete(params))
                trial = self.store.search.ask(self._distributions)
                return self._begin(self.store.search, trial.number, SEARCH, architecture, params)
        self._exhausted = True
        return None

    def _needs_no_training(self, architecture: Architecture) -> str | None:
        """Why a suggestion is answered for free: known, impossible, or over a limit."""
        known = self._tried.get(architecture.fingerprint)
        if known is not None:
            return f"the network of trial {known}"
        try:
            return self.space.settings.excess(self.measure(architecture))
        except SpecError as error:
            return str(error)

    def _submit(self, job: Job) -> None:
        self._ticket += 1
        self._jobs[self._ticket] = job
        epochs = job.record.get("epochs", self.epochs)
        task = Task(
            job.architecture,
            job.record["seed"],
            self._next_look(job),
            job.checkpoint,
            job.fidelity,
            epochs,
            job.record["origin"],
        )
        self.executor.submit(self._ticket, task)

    def _next_look(self, job: Job) -> int | None:
        """The epoch after which a training comes back; None for its end.

        A final does after every epoch, so that a kill costs no more than one.
        """
        if job.fidelity is Fidelity.FINAL:
            ahead = job.epochs_done + 1
            return ahead if ahead < job.record["epochs"] else None
        if job.record["origin"] == SEARCH and job.fidelity is Fidelity.SCREENING:
            usual = self.space.settings.proxy.epochs
            return self._race.next_rung(self.epochs or usual, job.epochs_done, usual)
        return None  # references and longer trainings are never stopped

    def _tell(self, finished: Finished, baselines_left: int) -> None:
        if finished.trouble is not None:
            raise finished.trouble
        job = self._jobs.pop(finished.ticket)
        if finished.outcome is not None and finished.outcome.checkpoint is not None:
            if not self._stopped(job, finished.outcome):
                self._submit(job)
                return
        elif finished.outcome is not None:
            self._complete(job, finished.outcome)
        elif finished.lost and job.attempts < MAX_ATTEMPTS:
            job.attempts += 1  # from the checkpoint of its last rung, if it had reached one
            self.store.set_attr(job.study, job.number, "attempts", job.attempts)
            self._submit(job)
            return
        else:
            fail(self.store, job, finished.error or "no reason was given")
            if job.fidelity is Fidelity.FINAL:
                self._finals.fail(job.record["trial"])
        trial = self._ended(job, finished)
        self._completed += trial is not None
        message = None if trial is None else _message(trial, job.fidelity)
        self._report(baselines_left, message)

    def _ended(self, job: Job, finished: Finished) -> TrialRecord | None:
        """The trial with the training that ended; None where that only measured the noise."""
        if job.fidelity is Fidelity.SCREENING:
            return self.store.record(job.study, job.number)
        if job.record["repeat"]:
            return None
        of = self._record_of(job)
        if finished.outcome is None:
            return replace(of, state=State.FAILED, evaluation=None, error=finished.error)
        evaluation = finished.outcome.evaluation
        if finished.outcome.checkpoint is not None:
            reason = self._finals.verdict(of, evaluation.curve, self.images.validation)
            return replace(of, state=State.PRUNED, evaluation=evaluation, error=reason)
        return replace(of, evaluation=evaluation)

    def _complete(self, job: Job, outcome: Outcome) -> None:
        evaluation = outcome.evaluation
        data = evaluation.to_dict()
        checkpoint, weights = self._files(job)
        if outcome.weights is not None:  # before the trial is told: what is told has its files
            write_bytes_whole(weights, outcome.weights)
        self.store.set_attr(job.study, job.number, "evaluation", data)
        job.study.tell(job.number, objectives(data, job.record))
        if job.record["repeat"]:
            return
        if job.fidelity is Fidelity.SCREENING:
            self._race.add(job.cost, evaluation.curve)
            if job.study is self.store.baselines:
                self._tell_sampler()
            return
        if job.fidelity is Fidelity.FINAL:
            checkpoint.unlink(missing_ok=True)
            self._finals.take_up(self._record_of(job), evaluation)
        elif self._promotions is not None:
            self._promotions.add(job.record["trial"], evaluation)
        self._tell_sampler()

    def _record_of(self, job: Job) -> TrialRecord:
        """The record whose network a longer training trains."""
        return next(r for r in self.store.records() if r.trial == job.record["trial"])

    def _tell_sampler(self) -> None:
        """Keep accuracies of longer trainings and of references where samplers find them."""
        records = self.store.records()
        promoted, finals = denoised_promotions(records), self._final_accuracies(records)
        numbers = {
            trial.user_attrs["record"]["trial"]: str(trial.number)
            for trial in self.store.search.get_trials(deepcopy=False)
            if "record" in trial.user_attrs
        }
        told: dict[str, Any] = {
            PROMOTED: {numbers[t]: a for t, a in promoted.items() if t in numbers},
            FINALS: {numbers[t]: a for t, a in finals.items() if t in numbers},
            ANCHORS: self._anchors(records, promoted, finals),
        }
        for key, value in told.items():
            if value != self.store.search.user_attrs.get(key, type(value)()):
                self.store.search.set_user_attr(key, value)

    def _final_accuracies(self, records: Sequence[TrialRecord]) -> dict[int, float]:
        """Validation accuracies after finals, by trial; of a pruned one, its forecast."""
        found = {
            trial.user_attrs["record"]["trial"]: trial.user_attrs[PARTIAL_ACCURACY]
            for trial in self.store.baselines.get_trials(
                deepcopy=False, states=(TrialState.PRUNED,)
            )
            if PARTIAL_ACCURACY in trial.user_attrs
        }
        return found | {
            r.trial: fmean(final.accuracy for final in r.finals) for r in records if r.finals
        }

    def _anchors(
        self,
        records: Sequence[TrialRecord],
        promoted: Mapping[int, float],
        finals: Mapping[int, float],
    ) -> list[dict[str, Any]]:
        """References that are networks of the space: the sampler learns from them too.

        Not from the donor's own, which start otherwise than candidates do.
        """
        found = []
        for record in complete(list(records)):
            if not record.is_baseline or record.evaluation is None or record.origin in DONORS:
                continue
            try:
                params = self.space.encode(record.architecture)
            except SpecError:
                continue
            found.append(
                {
                    "params": self.space.complete(params),
                    "accuracy": record.accuracy,
                    "validation_loss": record.evaluation.validation_loss,
                    "promoted": promoted.get(record.trial),
                    "final": finals.get(record.trial),
                }
            )
        return found

    def _stopped(self, job: Job, outcome: Outcome) -> bool:
        """Look at a training that came back: stop it and keep its curve, or let it go on."""
        evaluation = outcome.evaluation
        forecast: float | None
        if job.fidelity is Fidelity.FINAL:
            record = self._record_of(job)
            reason = self._finals.verdict(record, evaluation.curve, self.images.validation)
            forecast = self._finals.forecast(record, evaluation.curve)
        else:
            reason = self._race.verdict(job.cost, evaluation.curve)
            expected = self._race.forecast(job.cost, evaluation.curve)
            forecast = None if expected is None else expected.accuracy
        if reason is None:
            job.epochs_done, job.checkpoint = len(evaluation.curve), outcome.checkpoint
            if job.fidelity is Fidelity.FINAL and outcome.checkpoint is not None:
                write_bytes_whole(self._files(job)[0], outcome.checkpoint)
                self.store.set_attr(job.study, job.number, EPOCHS_DONE, job.epochs_done)
            return False
        # Told before the outcome is: a driver killed in between finds the reason, and stops it too.
        self.store.set_attr(job.study, job.number, "stopped", reason)
        if forecast is not None:
            self.store.set_attr(job.study, job.number, PARTIAL_ACCURACY, forecast)
        self.store.set_attr(job.study, job.number, "evaluation", evaluation.to_dict())
        job.study.tell(job.number, state=TrialState.PRUNED)
        if job.fidelity is Fidelity.FINAL:
            self._files(job)[0].unlink(missing_ok=True)
            self._finals.take_up(self._record_of(job), evaluation)
            self._tell_sampler()
        return True

    def _report(self, baselines_left: int, message: str | None = None) -> None:
        """Emit a progress event."""
        running = len(self._jobs)
        searching = sum(job.study is self.store.search for job in self._jobs.values())
        phase = "baselines" if baselines_left or searching < running else "search"
        candidates = None if self.target is None else max(0, self.target - self._begun)
        left = None if candidates is None else running + baselines_left + candidates
        if self._promotions is not None:
            phase = "longer training"
            if any(job.fidelity is Fidelity.FINAL for job in self._jobs.values()):
                phase = "finals"
            left = running + (len(self._promotions.required()) if self._promoting else 0)
        until = self.deadline - time.monotonic()
        self.on_progress(
            Progress(
                phase,
                self._completed,
                None if left is None else self._completed + left,
                running,
                max(0.0, until) if math.isfinite(until) and left is None else None,
                message=message,
            )
        )


def _message(trial: TrialRecord, fidelity: Fidelity) -> str:
    """One line about a training that has completed."""
    what = trial.architecture.name if trial.is_baseline else "search"
    what += _TRAININGS[fidelity]
    outcome = f"accuracy {trial.accuracy:.3f}" if trial.state is State.COMPLETE else trial.error
    if trial.state is State.FAILED:
        outcome = f"failed: {trial.error}"
    return f"trial {trial.trial} ({what}): {outcome}, {amount(trial.metric, trial.cost)}"
