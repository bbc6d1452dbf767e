"""The driver of a search: ask the sampler, submit trainings and store their outcomes.

What is trained next follows from the storage, so that the run after a killed one finds the same
work. First come interrupted trials, then baselines, repeats that measure the noise, candidates up
to the target, and promotions where a budget has no finals. From FIRST_FINAL of the search on,
finals keep pace with it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState

from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure, measure
from mbsearch.cost.metrics import amount
from mbsearch.errors import StorageError
from mbsearch.execution.local import Executor, Finished
from mbsearch.execution.protocol import Task
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.search.estimates import Estimates
from mbsearch.search.finals import FIRST_FINAL, FinalRounds
from mbsearch.search.finals_plan import PLAN, Plan
from mbsearch.search.int8_validation import is_validated, left_out
from mbsearch.search.outcomes import Outcomes, start_race
from mbsearch.search.pending import (
    MAX_ATTEMPTS,
    Job,
    MissingBaseline,
    count_attempt,
    find_promotions,
    interrupted,
    missing_baselines,
    missing_repeats,
)
from mbsearch.search.promotion import Promotions
from mbsearch.search.sampler_data import update_sampler_data
from mbsearch.search.suggestions import Suggestions
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import SEARCH, Evaluation, Fidelity, State, TrialRecord, complete
from mbsearch.study.run_clock import STARTED
from mbsearch.study.store import RECORD, StudyStore
from mbsearch.study.trial_spec import TrialKind, TrialSpec

OnTrial = Callable[[TrialRecord], None]
"""A function that receives the record of each completed, pruned or failed trial."""

_LOGGER = logging.getLogger(__name__)
_TRAININGS_TIMED = 3  # before an estimate of the remaining time
_TRAININGS = {Fidelity.SCREENING: "", Fidelity.PROMOTION: ", promotion", Fidelity.FINAL: ", final"}


def ignore_trial(record: TrialRecord) -> None:
    """Do nothing with the record of a trial."""


@dataclass(frozen=True, slots=True)
class Images:
    """Number of images of the training split and of the validation split."""

    train: int = 1
    validation: int = 1


@dataclass
class Driver:
    """Runs the trainings of a study until it has `target` search trials.

    With `target` None there is no limit. The `deadline` is a time of `time.monotonic`. `still_held`
    raises an error if another run may have the study. `folder` keeps checkpoints and weights of
    finals. `epochs` is the length of a screening, None for the recipe's. `final_scale` is the share
    of a network's resolution at which finals train. `seeds` is the number of trainings of each
    candidate. `on_trial` receives the record of each completed, pruned or failed trial.
    """

    store: StudyStore
    space: SearchSpecification
    executor: Executor
    target: int | None
    seed: int
    on_progress: OnProgress = ignore_progress
    deadline: float = math.inf
    measure: Measure = measure
    still_held: Callable[[], None] = lambda: None
    folder: Path = Path()
    images: Images = Images()
    epochs: int | None = None
    final_scale: float = 1.0
    seeds: int = 1
    on_trial: OnTrial = ignore_trial
    _jobs: dict[int, Job] = field(default_factory=dict)
    _ticket: int = 0
    _next_trial: int = 0
    _completed: int = 0  # trainings of this run
    _completed_finals: int = 0  # those of them that are finals
    _finals_before: float = 0.0  # seconds of the finals of earlier runs
    _begun: int = 0  # search trials that are running or have been trained
    _interrupted: list[Job] = field(default_factory=list)
    _baselines: list[MissingBaseline] = field(default_factory=list)
    _repeats: list[MissingBaseline] | None = None  # of candidates; set when all have begun
    _searched: bool = False  # no candidate or repeat is left
    _promotions: Promotions | None = None  # set after the search if there are any
    _promoting: bool = False
    _suggestions: Suggestions = field(init=False)
    _finals: FinalRounds = field(init=False)
    _outcomes: Outcomes = field(init=False)
    _started: float = field(default_factory=time.monotonic)
    _search_until: float = math.inf

    def __post_init__(self) -> None:
        self._suggestions = Suggestions(self.store, self.space, self.measure, self.seed)

    def run(self) -> None:
        """Run the study's trainings: baselines, candidates, promotions and finals.

        It ends when the target is reached or the space is exhausted, and no trial is running. An
        exception, Ctrl-C and the deadline leave the running trials to the next run.

        Raises:
            DataError: the images cannot be used.
            StorageError: the study's storage, or a file that workers need, cannot be used.
        """
        self._interrupted = interrupted(self.store)
        self._load_trials()
        self._finals = self._load_finals()
        self._outcomes = Outcomes(
            self.store,
            self.space,
            start_race(self.store, self.space),
            self._finals,
            self.folder,
            self.images.validation,
            self.epochs,
        )
        for job in self._interrupted:
            if job.spec.kind is TrialKind.FINAL:
                self._outcomes.resume(job)
        self._baselines = missing_baselines(self.store, self.space, self.measure)
        update_sampler_data(self.store, self.space)  # the last run may have been killed before
        self._finals_before = self._finals.taken()
        self._started = time.monotonic()
        self._search_until = self._started + self._search_seconds()
        try:
            self._work()
            if (
                sentence := left_out(self.space.settings.finals.int8, self.store.records())
            ) is not None:
                _LOGGER.info(sentence)
        finally:
            with suppress(StorageError):  # the run ends with the error that is raised already
                self.still_held()
                self._refund_attempts()

    def _search_seconds(self) -> float:
        """Return the seconds after which no candidate begins; longer training has the rest."""
        seconds = self.deadline - self._started
        if not self._finals.enabled or self.space.settings.promotion.share is not None:
            seconds *= 1 - self.space.settings.promotion.allowed
        if not self._finals.enabled or not math.isfinite(self.deadline):
            return seconds
        minutes = self.space.settings.finals.minutes
        return seconds - (seconds / 2 if minutes is None else min(60 * minutes, seconds / 2))

    def _work(self) -> None:
        """Submit trainings and store outcomes until no work is left or the deadline has passed."""
        while time.monotonic() < self.deadline:
            while len(self._jobs) < self.executor.slots:
                job = self._next()
                if job is None:
                    break
                self._submit(job)
            if not self._jobs:
                return
            self._report()
            left = self.deadline - time.monotonic()
            ended = self.executor.wait(timeout=max(0.0, min(1.0, left)))
            self.still_held()  # the machine may have been suspended
            for finished in sorted(ended, key=lambda each: each.trouble is not None):
                self._store_result(finished)

    def _refund_attempts(self) -> None:
        """Take back the attempt counted for each running trial, as the run ends without a crash."""
        for job in self._jobs.values():
            self.store.set_attr(job.study, job.number, "attempts", job.attempts - 1)

    @property
    def exhausted(self) -> bool:
        """Whether every network of the space within the limits has been tried."""
        return self._suggestions.exhausted

    @property
    def unpromoted(self) -> float | None:
        """Share of the work that promotions would have needed, if they exceeded the allowed share.

        None if the promotions were affordable, or finals take their place.
        """
        if self._promotions is None or self._promoting:
            return None
        return self._promotions.needed

    def _next(self) -> Job | None:
        """Return the next training; None if none is left, or if running trials must end first."""
        if self._interrupted:
            return count_attempt(self.store, self._interrupted.pop(0))
        if self._baselines:
            return self._begin_baseline(self._baselines.pop(0))
        if self._is_searching():
            if (final := self._due_final(self._progress())) is not None:
                return final
            if (job := self._begin_candidate()) is not None:
                return job
        if self._repeats is None:
            self._repeats = missing_repeats(self.store, self.seeds)
        if self._repeats:
            return self._begin_baseline(self._repeats.pop(0))
        return self._next_longer()

    def _next_longer(self) -> Job | None:
        """Return the next promotion or final after the search; None as `_next`."""
        self._searched = True
        if self._promotions is None and self._is_promotion_due():
            if self._jobs:  # they may still join the front
                return None
            self._promotions = find_promotions(self.store, self.space)
            self._promoting = self._promotions.affordable
            if self._promoting:
                estimates = Estimates(self.store, self.space, self.measure)
                self._promotions.predict(estimates.short(self._promotions.records))
        due = self._promotions.next() if self._promotions is not None and self._promoting else None
        if self._promotions is not None and due is not None:
            return self._begin_promotion(self._promotions, *due)
        return self._due_final(progress=1.0)

    def _is_promotion_due(self) -> bool:
        """Return whether promotions follow the search.

        Without a given share they only do if a budget has no finals, on which its answer rests.
        """
        share = self.space.settings.promotion.share
        if share is not None:
            return share > 0
        self._plan_finals(progress=1.0)
        return not self._finals.enabled or not self._finals.in_every_budget

    def _is_searching(self) -> bool:
        """Return whether the search is to train more candidates.

        The time left at the end is for promotions and finals.
        """
        if self._searched or self.exhausted:
            return False
        if self.target is not None and self._begun >= self.target:
            return False
        if time.monotonic() < self._search_until:
            return True
        return not self._finals.enabled and not find_promotions(self.store, self.space).affordable

    def _progress(self) -> float:
        """Return the completed share of the search: the larger of its shares of trials and time."""
        of_trials = 0.0 if self.target is None else self._done / max(1, self.target)
        seconds = self._search_until - self._started
        of_time = (time.monotonic() - self._started) / seconds if math.isfinite(seconds) else 0.0
        return min(1.0, max(of_trials, of_time))

    @property
    def _done(self) -> int:
        """Number of search trials that are completed, pruned or failed."""
        return self._begun - self._running_candidates

    @property
    def _running_candidates(self) -> int:
        return sum(job.spec.kind is TrialKind.SEARCH for job in self._jobs.values())

    def _due_final(self, progress: float) -> Job | None:
        """Begin the next final if one is due at this progress of the search; else return None."""
        if not self._finals.enabled or progress < FIRST_FINAL:
            return None
        self._plan_finals(progress)
        due = self._finals.next(self.store.records(), progress)
        return None if due is None else self._begin_final(*due)

    def _plan_finals(self, progress: float) -> None:
        """Make and store the plan of the finals if there is none for this study as it is."""
        rounds = self._finals
        if rounds.enabled and rounds.needs_plan and complete(records := self.store.records()):
            plan = rounds.make_plan(records, progress, self.executor.slots)
            self.store.search.set_user_attr(PLAN, plan.to_dict())
            _LOGGER.info(plan.sentence(rounds.budgets))

    def _begin_final(self, of: TrialRecord, budget: str) -> Job:
        assert self._finals.plan is not None
        self._finals.begin(of, budget)
        seed, epochs = self.seed + of.trial, self._finals.plan.epochs
        return self._begin_longer(of, TrialKind.FINAL, seed, epochs, budget)

    def _begin_promotion(self, promotions: Promotions, of: TrialRecord, repeat: bool) -> Job:
        promotions.begin(of, repeat)
        if not repeat:
            return self._begin_longer(of, TrialKind.PROMOTION, self.seed + of.trial)
        seed, self._next_trial = self.seed + self._next_trial, self._next_trial + 1
        return self._begin_longer(of, TrialKind.PROMOTION_REPEAT, seed)

    def _begin_longer(
        self,
        of: TrialRecord,
        kind: TrialKind,
        seed: int,
        epochs: int | None = None,
        budget: str | None = None,
    ) -> Job:
        """Begin a promotion or final of a record's network."""
        spec = TrialSpec(
            kind=kind,
            trial=of.trial,
            origin=of.origin,
            architecture=of.architecture,
            fingerprint=of.fingerprint,
            costs=of.costs,
            params=of.params,
            seed=seed,
            metric=of.metric,
            epochs=epochs,
            budget=budget,
        )
        return self._start(self.store.baselines, self.store.baselines.ask().number, spec)

    def _begin_baseline(self, missing: MissingBaseline) -> Job:
        costs = self.measure(missing.network)
        spec = self._screening(missing.kind, missing.family, missing.network, costs, {})
        return self._start(self.store.baselines, self.store.baselines.ask().number, spec)

    def _begin_candidate(self) -> Job | None:
        """Begin the screening of the next candidate; None if no candidate is left."""
        found = self._suggestions.next(self._next_trial)
        if found is None:
            return None
        spec = self._screening(
            TrialKind.SEARCH, SEARCH, found.architecture, found.costs, found.params
        )
        self._begun += 1
        return self._start(self.store.search, found.number, spec)

    def _screening(
        self,
        kind: TrialKind,
        origin: str,
        network: Architecture,
        costs: Mapping[str, int],
        params: Mapping[str, Any],
    ) -> TrialSpec:
        """Return the specification of the next screening, under a new trial number."""
        trial, self._next_trial = self._next_trial, self._next_trial + 1
        self._suggestions.tried.setdefault(network.fingerprint, trial)
        return TrialSpec(
            kind=kind,
            trial=trial,
            origin=origin,
            architecture=network,
            fingerprint=network.fingerprint,
            costs=costs,
            params=params,
            seed=self.seed + trial,
            metric=self.space.settings.metric,
        )

    def _start(self, study: optuna.Study, number: int, spec: TrialSpec) -> Job:
        started = self.store.clock.now().time.isoformat()
        self.store.set_attr(study, number, RECORD, spec.to_dict() | {STARTED: started})
        return Job(study, number, spec)

    def _load_trials(self) -> None:
        """Read the networks tried so far and the next trial number from the storage."""
        for study in (self.store.baselines, self.store.search):
            for trial, spec in self.store.trials(study):
                # A repeat of a promotion has the trial of its network, but a seed of its own.
                last = max(spec.trial, spec.seed - self.seed)
                self._next_trial = max(self._next_trial, last + 1)
                self._begun += study is self.store.search
                if study is self.store.search or trial.state is not TrialState.FAIL:
                    self._suggestions.tried.setdefault(spec.fingerprint, spec.trial)

    def _load_finals(self) -> FinalRounds:
        """Return the study's finals, including those of earlier runs."""
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
            self.target,
            timed=self.target is None and math.isfinite(self.deadline),
        )
        records = {r.trial: r for r in self.store.records()}
        for trial, spec in self.store.trials(self.store.baselines):
            record = records.get(spec.trial)
            if record is None or spec.kind is not TrialKind.FINAL:
                continue
            rounds.begin(record, spec.budget)
            evaluation = trial.user_attrs.get("evaluation")
            if evaluation is not None:
                rounds.add(record, Evaluation.from_dict(evaluation))
            if trial.state is TrialState.FAIL:
                rounds.fail(record.trial)
        return rounds

    def _promising(self, budget: int, begun: Collection[int]) -> TrialRecord | None:
        """Return the most promising candidate within a budget, of those that have no final yet."""
        estimates = Estimates(self.store, self.space, self.measure)
        return estimates.finalist(self.store.records(), budget, begun)

    def _submit(self, job: Job) -> None:
        spec, pause = job.spec, self._outcomes.next_pause(job)
        int8 = pause is None and spec.kind is TrialKind.FINAL and self._is_validated()
        self._ticket += 1
        self._jobs[self._ticket] = job
        task = Task(
            spec.architecture,
            spec.seed,
            pause,
            job.checkpoint,
            spec.fidelity,
            self.epochs if spec.epochs is None else spec.epochs,
            spec.origin,
            int8,
        )
        self.executor.submit(self._ticket, task)

    def _is_validated(self) -> bool:
        """Return whether a final that now begins its last epoch is validated as int8, too."""
        finals = [job for job in self._jobs.values() if job.spec.kind is TrialKind.FINAL]
        running = sum(self._outcomes.next_pause(job) is None for job in finals)
        return is_validated(self.space.settings.finals.int8, self.store.records(), running)

    def _store_result(self, finished: Finished) -> None:
        """Store the outcome of a task; resubmit its training if more epochs are left."""
        if finished.trouble is not None:
            raise finished.trouble
        job, outcome = self._jobs.pop(finished.ticket), finished.outcome
        if outcome is not None and outcome.checkpoint is not None:
            if self._outcomes.continue_or_prune(job, outcome):
                self._submit(job)
                return
        elif outcome is not None:
            self._outcomes.complete(job, outcome)
            if job.spec.kind is TrialKind.PROMOTION and self._promotions is not None:
                self._promotions.add(job.spec.trial, outcome.evaluation)
        elif finished.lost and job.attempts < MAX_ATTEMPTS:
            job.attempts += 1  # it resumes from the checkpoint of its last rung, if there is one
            self.store.set_attr(job.study, job.number, "attempts", job.attempts)
            self._submit(job)
            return
        else:
            self._outcomes.fail(job, finished.error or "the evaluator gave no reason")
        trial = self._outcomes.record(job, finished)
        self._completed += 1
        self._completed_finals += job.spec.kind is TrialKind.FINAL
        self._report(None if trial is None else _message(trial, job.spec.fidelity))
        if trial is not None and self.on_trial is not ignore_trial:
            self._pass_on(trial.trial)

    def _pass_on(self, number: int) -> None:
        """Call `on_trial` with a trial's stored record; log an error in it."""
        record = next(r for r in self.store.records() if r.trial == number)
        try:
            self.on_trial(record)
        except Exception as error:  # the user's code, which must not end the search
            reason = " ".join(str(error).split())
            _LOGGER.warning(f"on_trial: trial {number}: {type(error).__name__}: {reason}")

    def _report(self, message: str | None = None) -> None:
        """Emit a progress event, with a message if a training has just ended."""
        running, baselines = len(self._jobs), len(self._baselines)
        kinds = {job.spec.kind for job in self._jobs.values()}
        left = None
        if self.target is not None:
            repeats = self._repeats
            waiting = (self.seeds - 1) * self.target if repeats is None else len(repeats)
            left = running + baselines + max(0, self.target - self._begun) + waiting
        if self._searched:
            left = running
            left += len(self._promotions.required()) if self._promotions and self._promoting else 0
        if baselines or kinds & {TrialKind.BASELINE, TrialKind.REPEAT}:
            phase = "baselines"
        elif self._searched and TrialKind.FINAL in kinds:
            phase = "finals"
        else:
            phase = "longer training" if self._promotions is not None else "search"
        self.on_progress(
            Progress(
                phase,
                self._completed,
                None if left is None else self._completed + left,
                running,
                self._seconds_left(left),
                message=message,
                curves={job.spec.trial: job.accuracies for job in self._jobs.values()},
            )
        )

    def _seconds_left(self, left: int | None) -> float | None:
        """Return the remaining seconds by past trainings or the deadline; None if unknown.

        Args:
            left: trainings that are running or have not begun, without the finals that have not.
        """
        now = time.monotonic()
        until = max(0.0, self.deadline - now)
        if left is None or self.target is None:
            return until if math.isfinite(until) else None
        others = self._completed - self._completed_finals
        waiting = left - sum(job.spec.kind is TrialKind.FINAL for job in self._jobs.values())
        if waiting and others < _TRAININGS_TIMED:
            return None
        slots = self.executor.slots
        finals = (self._finals.taken() - self._finals_before) / slots
        each = max(0.0, now - self._started - finals) / max(others, 1)
        searching = each * slots * self.target
        rest = self._finals.seconds_left(self.store.records(), searching, slots) / slots
        return min(until, waiting * each + rest)


def _message(trial: TrialRecord, fidelity: Fidelity) -> str:
    """Return one line of text about a training that has just ended."""
    what = trial.architecture.name if trial.is_baseline else "search"
    what += _TRAININGS[fidelity]
    outcome = (
        f"{trial.score.noun} {trial.accuracy:.3f}" if trial.state is State.COMPLETE else trial.error
    )
    if trial.state is State.FAILED:
        outcome = f"failed: {trial.error}"
    return f"trial {trial.trial} ({what}): {outcome}, {amount(trial.metric, trial.cost)}"
