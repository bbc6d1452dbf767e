"""The driver: the one process that asks, tells and writes; workers only train.

What is to do is always derived from the storage, so a killed driver's successor finds the same
work: first the trials that were in flight, then the baselines, then the repeats that measure the
noise, then new candidates until the target, then longer trainings of the best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from mbsearch.cost import Measure, measure
from mbsearch.errors import SpecError, StorageError
from mbsearch.records import SEARCH, Evaluation, State, TrialRecord, complete
from mbsearch.search.backlog import (
    MAX_ATTEMPTS,
    Job,
    begin_again,
    fail,
    find_promotions,
    interrupted,
    missing_baselines,
)
from mbsearch.search.estimates import Estimates, denoised_promotions
from mbsearch.search.evaluator import Outcome, Task
from mbsearch.search.executor import Executor, Finished
from mbsearch.search.history import PARTIAL_ACCURACY, PROMOTED
from mbsearch.search.promotion import Promotions
from mbsearch.search.racing import Race
from mbsearch.search.samplers import distributions
from mbsearch.search.storage import StudyStore, new_record, objectives
from mbsearch.space.architecture import Architecture
from mbsearch.space.settings import Racing
from mbsearch.space.space import SearchSpace

FREE_ASKS = 50  # suggestions in a row that need no training before the driver draws itself
RANDOM_DRAWS = 2_000
ENUMERATE_UP_TO = 20_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for whoever shows it; `trial` is the one that just ended.

    `left` counts every training that is still to end: baselines, repeats and search trials, and at
    the end the longer trainings that are known to be due. `trial` has the accuracy of the training
    that ended, which was the longer one where the trial was `promoted`.
    """

    done: int
    target: int
    running: int
    left: int
    phase: str
    trial: TrialRecord | None = None
    promoted: bool = False


@dataclass
class Driver:
    """Runs one study towards a number of search trials."""

    store: StudyStore
    space: SearchSpace
    executor: Executor
    target: int
    seed: int
    on_progress: Callable[[Progress], None] = lambda _: None
    deadline: float = math.inf  # on time.monotonic's clock
    measure: Measure = measure
    still_held: Callable[[], None] = lambda: None  # raises where another driver may have the study
    _jobs: dict[int, Job] = field(default_factory=dict)
    _ticket: int = 0
    _next_trial: int = 0
    _begun: int = 0  # search trials that were trained, or are in flight
    _tried: dict[str, int] = field(default_factory=dict)
    _distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    _exhausted: bool = False
    _race: Race = field(default_factory=lambda: Race(Racing()))
    _promotions: Promotions | None = None  # once the search has ended
    _promoting: bool = False

    def run(self) -> None:
        """Work until the target is reached or the space is exhausted; ends with nothing in flight.

        An exception, a Ctrl-C, and the deadline leave the trials in flight to the next run.

        Raises:
            DataError: the images cannot be used.
            StorageError: the study's storage, or a file that workers need, cannot be used.
        """
        self._distributions = distributions(self.space)
        orphans = interrupted(self.store)
        self._recall()
        self._race = self._start_race()
        references = missing_baselines(self.store, self.space, self.measure)
        self._tell_sampler()  # a driver may have been killed before it did
        now, share = time.monotonic(), self.space.settings.promotion.share
        search_until = now + (self.deadline - now) * (1 - share)
        try:
            self._work(orphans, references, search_until)
        finally:
            with suppress(StorageError):  # otherwise it is what ends the run
                self.still_held()
                self._spare()

    def _work(
        self,
        orphans: list[Job],
        references: list[tuple[str, Architecture, bool]],
        search_until: float,
    ) -> None:
        """Keep the workers busy until nothing is left to do, or the time is up."""
        while time.monotonic() < self.deadline:
            while len(self._jobs) < self.executor.slots:
                job = self._next(orphans, references, search_until)
                if job is None:
                    break
                self._submit(job)
            if not self._jobs:
                return
            self._report(None, len(references))
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
        self,
        orphans: list[Job],
        references: list[tuple[str, Architecture, bool]],
        search_until: float,
    ) -> Job | None:
        """What is to be trained next; None where nothing is, or not before others have ended."""
        if orphans:
            return begin_again(self.store, orphans.pop(0))
        if references:
            return self._begin_baseline(*references.pop(0))
        if self._is_searching(search_until) and (job := self._ask()) is not None:
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
        return None if due is None else self._begin_promotion(self._promotions, *due)

    def _is_searching(self, until: float) -> bool:
        """Whether candidates are still wanted: the last share of a run's time is for promotion."""
        if self._promotions is not None or self._exhausted or self._begun >= self.target:
            return False
        return time.monotonic() < until or not find_promotions(self.store, self.space).affordable

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
        race = Race(self.space.settings.racing)
        for record in complete(self.store.records()):
            if record.evaluation is not None:
                race.add(record.cost, record.evaluation.curve)
        return race

    def _begin_baseline(self, name: str, architecture: Architecture, repeat: bool) -> Job:
        trial = self.store.baselines.ask()
        return self._begin(self.store.baselines, trial.number, name, architecture, {}, repeat)

    def _begin_promotion(self, promotions: Promotions, of: TrialRecord, repeat: bool) -> Job:
        study = self.store.baselines
        seed = self.seed + of.trial
        if repeat:
            seed, self._next_trial = self.seed + self._next_trial, self._next_trial + 1
        promotions.begin(of, repeat)
        data = new_record(
            of.trial,
            of.origin,
            of.architecture,
            of.costs,
            of.params,
            seed=seed,
            metric=of.metric,
            repeat=repeat,
            promoted=True,
        )
        number = study.ask().number
        self.store.set_attr(study, number, "record", data)
        return Job(study, number, data, of.architecture)

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
            return self.space.settings.limits.excess(self.measure(architecture))
        except SpecError as error:
            return str(error)

    def _submit(self, job: Job) -> None:
        self._ticket += 1
        self._jobs[self._ticket] = job
        rung = None
        if job.record["origin"] == SEARCH and not job.promoted:  # the others are never stopped
            rung = self._race.next_rung(self.space.settings.proxy.epochs, job.epochs_done)
        task = Task(job.architecture, job.record["seed"], rung, job.checkpoint, job.promoted)
        self.executor.submit(self._ticket, task)

    def _tell(self, finished: Finished, baselines_left: int) -> None:
        if finished.trouble is not None:
            raise finished.trouble
        job = self._jobs.pop(finished.ticket)
        if finished.outcome is not None and finished.outcome.checkpoint is not None:
            if not self._stopped(job, finished.outcome):
                self._submit(job)
                return
        elif finished.outcome is not None:
            self._complete(job, finished.outcome.evaluation)
        elif finished.lost and job.attempts < MAX_ATTEMPTS:
            job.attempts += 1  # from the checkpoint of its last rung, if it had reached one
            self.store.set_attr(job.study, job.number, "attempts", job.attempts)
            self._submit(job)
            return
        else:
            fail(self.store, job, finished.error or "no reason was given")
        self._report(self._ended(job, finished), baselines_left, job.promoted)

    def _ended(self, job: Job, finished: Finished) -> TrialRecord | None:
        """The trial with the training that ended; None where that only measured the noise."""
        if not job.promoted:
            return self.store.record(job.study, job.number)
        if job.record["repeat"]:
            return None
        of = next(r for r in self.store.records() if r.trial == job.record["trial"])
        if finished.outcome is None:
            return replace(of, state=State.FAILED, evaluation=None, error=finished.error)
        return replace(of, evaluation=finished.outcome.evaluation)

    def _complete(self, job: Job, evaluation: Evaluation) -> None:
        data = evaluation.to_dict()
        self.store.set_attr(job.study, job.number, "evaluation", data)
        job.study.tell(job.number, objectives(data, job.record))
        if job.record["repeat"]:
            return
        if not job.promoted:
            self._race.add(job.cost, evaluation.curve)
            return
        self._tell_sampler()
        if self._promotions is not None:
            self._promotions.add(job.record["trial"], evaluation)

    def _tell_sampler(self) -> None:
        """Leave the accuracies of longer trainings where a sampler finds them."""
        after = denoised_promotions(self.store.records())
        told = {
            str(trial.number): after[trial.user_attrs["record"]["trial"]]
            for trial in self.store.search.get_trials(deepcopy=False)
            if trial.user_attrs.get("record", {}).get("trial") in after
        }
        if told != self.store.search.user_attrs.get(PROMOTED, {}):
            self.store.search.set_user_attr(PROMOTED, told)

    def _stopped(self, job: Job, outcome: Outcome) -> bool:
        """Look at a trial at its rung: stop it and keep its curve, or let it go on."""
        evaluation = outcome.evaluation
        reason = self._race.verdict(job.cost, evaluation.curve)
        if reason is None:
            job.epochs_done, job.checkpoint = len(evaluation.curve), outcome.checkpoint
            return False
        # Told before the outcome is: a driver killed in between finds the reason, and stops it too.
        self.store.set_attr(job.study, job.number, "stopped", reason)
        if (forecast := self._race.forecast(job.cost, evaluation.curve)) is not None:
            self.store.set_attr(job.study, job.number, PARTIAL_ACCURACY, forecast.accuracy)
        self.store.set_attr(job.study, job.number, "evaluation", evaluation.to_dict())
        job.study.tell(job.number, state=TrialState.PRUNED)
        return True

    def _report(
        self, trial: TrialRecord | None, baselines_left: int, promoted: bool = False
    ) -> None:
        running = len(self._jobs)
        searching = sum(job.study is self.store.search for job in self._jobs.values())
        phase = "baselines" if baselines_left or searching < running else "search"
        left = running + baselines_left + max(0, self.target - self._begun)
        if self._promotions is not None:
            phase, left = "longer training", running
            left += len(self._promotions.required()) if self._promoting else 0
        self.on_progress(
            Progress(self._begun - searching, self.target, running, left, phase, trial, promoted)
        )
