"""The driver: the one process that asks, tells and writes; workers only train.

What is to do is always derived from the storage, so a killed driver's successor finds the same
work: first the trials that were in flight, then the baselines, then the repeats that measure the
noise, then new candidates until the target.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from mbsearch.cost import measure
from mbsearch.errors import SpecError
from mbsearch.records import SEARCH, TrialRecord
from mbsearch.search.evaluator import Task
from mbsearch.search.executor import Executor, Finished
from mbsearch.search.samplers import distributions
from mbsearch.search.storage import StudyStore, new_record, to_record
from mbsearch.space.architecture import Architecture
from mbsearch.space.catalog import baseline_architectures
from mbsearch.space.space import SearchSpace

MAX_ATTEMPTS = 3  # a trial whose worker died is tried again twice
FREE_ASKS = 50  # suggestions in a row that need no training before the driver draws itself
RANDOM_DRAWS = 2_000
ENUMERATE_UP_TO = 20_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for whoever shows it; `trial` is the one that just ended.

    `left` counts every training that is still to end: baselines, repeats and search trials.
    """

    done: int
    target: int
    running: int
    left: int
    phase: str
    trial: TrialRecord | None = None


@dataclass(slots=True)
class _Job:
    """A trial in flight."""

    study: optuna.Study
    number: int
    record: Mapping[str, Any]
    architecture: Architecture
    attempts: int = 1


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
    _jobs: dict[int, _Job] = field(default_factory=dict)
    _ticket: int = 0
    _next_trial: int = 0
    _tried: dict[str, int] = field(default_factory=dict)
    _distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    _exhausted: bool = False

    def run(self) -> None:
        """Work until the target is reached or the space is exhausted; ends with nothing in flight.

        An exception, a Ctrl-C, and the deadline leave the trials in flight to the next run.
        """
        self._distributions = distributions(self.space)
        self._recall()
        orphans = self._orphans()
        references = self._missing_baselines()
        while time.monotonic() < self.deadline:
            while len(self._jobs) < self.executor.slots:
                if orphans:
                    self._submit(orphans.pop(0))
                elif references:
                    name, architecture, repeat = references.pop(0)
                    self._submit(self._begin_baseline(name, architecture, repeat))
                elif self._begun() < self.target and not self._exhausted:
                    job = self._ask()
                    if job is not None:
                        self._submit(job)
                else:
                    break
            if not self._jobs:
                return
            self._report(None, len(references))
            left = self.deadline - time.monotonic()
            for finished in self.executor.wait(timeout=max(0.0, min(1.0, left))):
                self._tell(finished, len(references))

    @property
    def exhausted(self) -> bool:
        """Whether every network of the space that keeps the limits has been tried."""
        return self._exhausted

    def _recall(self) -> None:
        """Take up what the storage knows: networks, and the next trial's number."""
        for study in (self.store.baselines, self.store.search):
            for trial in study.get_trials(deepcopy=False):
                data = trial.user_attrs.get("record")
                if data is not None:
                    self._next_trial = max(self._next_trial, data["trial"] + 1)
                    if study is self.store.search or trial.state is TrialState.COMPLETE:
                        self._tried.setdefault(data["fingerprint"], data["trial"])

    def _orphans(self) -> list[_Job]:
        """Trials that an earlier driver left in flight; those that it had finished are told."""
        jobs: list[_Job] = []
        for study in (self.store.baselines, self.store.search):
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                data, evaluation = (trial.user_attrs.get(k) for k in ("record", "evaluation"))
                if data is None:  # killed before it was a trial at all
                    study.tell(trial.number, state=TrialState.FAIL)
                elif evaluation is not None:  # killed between the outcome and its telling
                    study.tell(trial.number, _values(evaluation, data))
                elif "error" in trial.user_attrs:
                    study.tell(trial.number, state=TrialState.FAIL)
                else:
                    jobs.append(self._again(study, trial, data))
        return [job for job in jobs if job.attempts <= MAX_ATTEMPTS]

    def _again(self, study: optuna.Study, trial: FrozenTrial, data: Mapping[str, Any]) -> _Job:
        attempts = trial.user_attrs.get("attempts", 1) + 1
        job = _Job(
            study, trial.number, data, Architecture.model_validate(data["architecture"]), attempts
        )
        if attempts > MAX_ATTEMPTS:
            self._fail(job, f"gave up after {MAX_ATTEMPTS} attempts: the run was killed each time")
        else:
            self.store.set_attr(study, trial.number, "attempts", attempts)
        return job

    def _missing_baselines(self) -> list[tuple[str, Architecture, bool]]:
        """Baselines and repeats that the study lacks: (reference, network, is it a repeat)."""
        have: dict[str, int] = {}
        for trial in self.store.baselines.get_trials(deepcopy=False):
            if "record" in trial.user_attrs:
                fingerprint = trial.user_attrs["record"]["fingerprint"]
                have[fingerprint] = have.get(fingerprint, 0) + 1
        wanted = [
            (name, network.replace(num_classes=self._num_classes(network)))
            for name, network in baseline_architectures(self.space)
        ]
        missing = [(n, a, False) for n, a in wanted if a.fingerprint not in have]
        if wanted:
            # The noise is measured on the baseline of median cost: neither end is typical.
            by_cost = sorted(wanted, key=lambda w: measure(w[1])["mult_adds"])
            name, network = by_cost[len(by_cost) // 2]
            repeats = self.space.settings.proxy.noise_seeds - max(
                have.get(network.fingerprint, 0), 1
            )
            missing += [(name, network, True)] * repeats
        return missing

    def _num_classes(self, network: Architecture) -> int:
        classes = self.space.template.get("num_classes", network.num_classes)
        return classes if isinstance(classes, int) else network.num_classes

    def _begun(self) -> int:
        """Search trials that were trained, or are in flight."""
        trials = self.store.search.get_trials(deepcopy=False)
        return sum("record" in trial.user_attrs for trial in trials)

    def _begin_baseline(self, name: str, architecture: Architecture, repeat: bool) -> _Job:
        trial = self.store.baselines.ask()
        return self._begin(self.store.baselines, trial.number, name, architecture, {}, repeat)

    def _begin(
        self,
        study: optuna.Study,
        number: int,
        origin: str,
        architecture: Architecture,
        params: Mapping[str, Any],
        repeat: bool = False,
    ) -> _Job:
        record = new_record(
            self._next_trial,
            origin,
            architecture,
            measure(architecture),
            params,
            seed=self.seed + self._next_trial,
            repeat=repeat,
        )
        self.store.set_attr(study, number, "record", record)
        self._tried.setdefault(architecture.fingerprint, self._next_trial)
        self._next_trial += 1
        return _Job(study, number, record, architecture)

    def _ask(self) -> _Job | None:
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

    def _draw(self) -> _Job | None:
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
            return self.space.settings.limits.excess(measure(architecture))
        except SpecError as error:
            return str(error)

    def _submit(self, job: _Job) -> None:
        self._ticket += 1
        self._jobs[self._ticket] = job
        self.executor.submit(self._ticket, Task(job.architecture, job.record["seed"]))

    def _tell(self, finished: Finished, baselines_left: int) -> None:
        job = self._jobs.pop(finished.ticket)
        if finished.outcome is not None:
            evaluation = finished.outcome.evaluation.to_dict()
            self.store.set_attr(job.study, job.number, "evaluation", evaluation)
            job.study.tell(job.number, _values(evaluation, job.record))
        elif finished.lost and job.attempts < MAX_ATTEMPTS:
            job.attempts += 1
            self.store.set_attr(job.study, job.number, "attempts", job.attempts)
            self._submit(job)
            return
        else:
            self._fail(job, finished.error or "no reason was given")
        trial = job.study.get_trials(deepcopy=False)[job.number]
        self._report(to_record(trial), baselines_left)

    def _fail(self, job: _Job, error: str) -> None:
        self.store.set_attr(job.study, job.number, "error", error)
        job.study.tell(job.number, state=TrialState.FAIL)

    def _report(self, trial: TrialRecord | None, baselines_left: int) -> None:
        running = len(self._jobs)
        searching = sum(job.record["origin"] == SEARCH for job in self._jobs.values())
        phase = "baselines" if baselines_left or searching < running else "search"
        begun = self._begun()
        left = running + baselines_left + max(0, self.target - begun)
        self.on_progress(Progress(begun - searching, self.target, running, left, phase, trial))


def _values(evaluation: Mapping[str, Any], record: Mapping[str, Any]) -> list[float]:
    """The two objectives: accuracy up, log10 Mult-Adds down (the scale that samplers like)."""
    return [evaluation["accuracy"], math.log10(record["costs"]["mult_adds"])]
