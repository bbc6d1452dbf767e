"""Pending work of a study: interrupted trials, and missing baselines and promotions.

It is derived from the storage alone, so that the run after a killed one finds the same work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure
from mbsearch.search.promotion import Promotions
from mbsearch.search.references import references_within
from mbsearch.search.sampler.observations import ABANDONED
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import SEARCH, Fidelity, complete
from mbsearch.study.store import StudyStore
from mbsearch.study.trial_spec import TrialKind, TrialSpec

MAX_ATTEMPTS = 3  # of a trial whose worker or run was killed


@dataclass(slots=True)
class Job:
    """A running trial and its progress."""

    study: optuna.Study
    number: int
    spec: TrialSpec
    attempts: int = 1
    epochs_done: int = 0
    checkpoint: bytes | None = None
    accuracies: tuple[float, ...] = ()  # after each epoch that has been reported


@dataclass(frozen=True, slots=True)
class MissingBaseline:
    """A reference network to screen, or a network to screen again with another seed.

    The family of a network of the space is ``search``.
    """

    family: str
    network: Architecture
    kind: TrialKind


def interrupted(store: StudyStore) -> list[Job]:
    """Return the trials that an earlier run left running, so that they are trained again.

    Trials whose outcome is stored are completed here. Trials with too many attempts fail.
    `count_attempt` counts the new attempt of the others.
    """
    jobs: list[Job] = []
    for study in (store.baselines, store.search):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            spec, evaluation = store.spec(trial), trial.user_attrs.get("evaluation")
            if spec is None:  # the run was killed while the suggestion was written
                store.set_attr(study, trial.number, ABANDONED, True)
                study.tell(trial.number, state=TrialState.FAIL)
            elif "error" in trial.user_attrs:
                store.tell(study, trial.number, state=TrialState.FAIL)
            elif evaluation is not None and "stopped" in trial.user_attrs:
                store.tell(study, trial.number, state=TrialState.PRUNED)
            elif evaluation is not None:
                store.tell(study, trial.number, spec.objectives(evaluation["accuracy"]))
            else:
                jobs.append(_again(store, study, trial, spec))
    return [job for job in jobs if job.attempts <= MAX_ATTEMPTS]


def _again(store: StudyStore, study: optuna.Study, trial: FrozenTrial, spec: TrialSpec) -> Job:
    attempts = trial.user_attrs.get("attempts", 1) + 1
    job = Job(study, trial.number, spec, attempts)
    if attempts > MAX_ATTEMPTS:
        fail(store, job, f"gave up after {MAX_ATTEMPTS} attempts: the run was killed each time")
    return job


def count_attempt(store: StudyStore, job: Job) -> Job:
    """Store the new number of attempts of an interrupted trial, and return its job."""
    store.set_attr(job.study, job.number, "attempts", job.attempts)
    return job


def fail(store: StudyStore, job: Job, error: str) -> None:
    """Store the error of a trial and set its state to failed."""
    store.set_attr(job.study, job.number, "error", error)
    store.tell(job.study, job.number, state=TrialState.FAIL)


def missing_baselines(
    store: StudyStore, space: SearchSpecification, measure: Measure
) -> list[MissingBaseline]:
    """Return the baselines that a study has not trained yet, then the missing repeats."""
    trained = Counter(
        spec.fingerprint
        for _, spec in store.trials(store.baselines)
        if spec.fidelity is Fidelity.SCREENING and spec.origin != SEARCH
    )
    wanted = references_within(space, measure)
    missing = [
        MissingBaseline(family, network, TrialKind.BASELINE)
        for family, network in wanted
        if network.fingerprint not in trained
    ]
    if wanted:
        # The baseline of median cost shows the noise: neither end of the costs is typical.
        by_cost = sorted(wanted, key=lambda w: measure(w[1])[space.settings.metric])
        family, network = by_cost[len(by_cost) // 2]
        repeats = space.settings.proxy.noise_seeds - max(trained[network.fingerprint], 1)
        missing += [MissingBaseline(family, network, TrialKind.REPEAT)] * repeats
    return missing


def missing_repeats(store: StudyStore, seeds: int) -> list[MissingBaseline]:
    """Return the repeats that the candidates lack until each has `seeds` trainings.

    Every candidate gets its second training before one gets its third.
    """
    repeats = Counter(
        spec.fingerprint
        for _, spec in store.trials(store.baselines)
        if spec.kind is TrialKind.REPEAT
    )
    states = (TrialState.COMPLETE, TrialState.RUNNING)
    networks = [spec.architecture for _, spec in store.trials(store.search, states)]
    return [
        MissingBaseline(SEARCH, network, TrialKind.REPEAT)
        for seed in range(1, seeds)
        for network in networks
        if repeats[network.fingerprint] < seed
    ]


def find_promotions(store: StudyStore, space: SearchSpecification) -> Promotions:
    """Return the study's promotions, including those that have begun."""
    proxy, records = space.settings.proxy, store.records()
    specs = [spec for _, spec in store.trials(store.baselines)]
    begun = {spec.trial for spec in specs if spec.kind is TrialKind.PROMOTION}
    repeats = [spec for spec in specs if spec.kind is TrialKind.PROMOTION_REPEAT]
    several = store.repeats()
    repeated = next((r for r in complete(records) if r.fingerprint in several), None)
    return Promotions(
        space.settings.promotion,
        records,
        begun,
        repeated,
        proxy.noise_seeds - 1 - len(repeats),
        sum(spec.costs["mult_adds"] for spec in repeats),
        [
            bounds[space.settings.metric]
            for budget in space.settings.budgets
            if space.settings.metric in (bounds := budget.bounds())
        ],
    )
