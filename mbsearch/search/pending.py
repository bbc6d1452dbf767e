"""What a study still owes: trials that were interrupted, baselines and repeats that are missing.

Always derived from the storage, so that a killed driver's successor finds the same work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from mbsearch.config.specification import SearchSpecification, baseline_architectures
from mbsearch.cost import Measure
from mbsearch.search.promotion import Promotions
from mbsearch.search.references import chosen_references
from mbsearch.search.sampler.observations import ABANDONED
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import Fidelity, complete
from mbsearch.study.store import (
    StudyStore,
    fidelity_of,
    objectives,
    recorded_cost,
    recorded_fidelity,
)

MAX_ATTEMPTS = 3  # a trial whose worker or driver died is tried again twice


@dataclass(slots=True)
class Job:
    """A trial in flight, and how far it has come."""

    study: optuna.Study
    number: int
    record: Mapping[str, Any]
    architecture: Architecture
    attempts: int = 1
    epochs_done: int = 0
    checkpoint: bytes | None = None

    @property
    def fidelity(self) -> Fidelity:
        """How the network is trained."""
        return recorded_fidelity(self.record)

    @property
    def cost(self) -> int:
        """What accuracy is weighed against."""
        return recorded_cost(self.record)


def interrupted(store: StudyStore) -> list[Job]:
    """Trials that an earlier driver left in flight, to be trained again under their own numbers.

    Those whose outcome was stored already are told; those that were cut off too often fail. What
    is trained again counts as another attempt by `begin_again`.
    """
    jobs: list[Job] = []
    for study in (store.baselines, store.search):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            data, evaluation = (trial.user_attrs.get(k) for k in ("record", "evaluation"))
            if data is None:  # the driver was killed before it had all of the suggestion
                store.set_attr(study, trial.number, ABANDONED, True)
                study.tell(trial.number, state=TrialState.FAIL)
            elif "error" in trial.user_attrs:
                study.tell(trial.number, state=TrialState.FAIL)
            elif evaluation is not None and "stopped" in trial.user_attrs:
                study.tell(trial.number, state=TrialState.PRUNED)
            elif evaluation is not None:
                study.tell(trial.number, objectives(evaluation, data))
            else:
                jobs.append(_again(store, study, trial, data))
    return [job for job in jobs if job.attempts <= MAX_ATTEMPTS]


def _again(
    store: StudyStore, study: optuna.Study, trial: FrozenTrial, data: Mapping[str, Any]
) -> Job:
    attempts = trial.user_attrs.get("attempts", 1) + 1
    architecture = Architecture.model_validate(data["architecture"])
    job = Job(study, trial.number, data, architecture, attempts)
    if attempts > MAX_ATTEMPTS:
        fail(store, job, f"gave up after {MAX_ATTEMPTS} attempts: the run was killed each time")
    return job


def begin_again(store: StudyStore, job: Job) -> Job:
    """Count the attempt that now begins at a trial of an earlier driver."""
    store.set_attr(job.study, job.number, "attempts", job.attempts)
    return job


def fail(store: StudyStore, job: Job, error: str) -> None:
    """Tell a trial as failed, with its reason."""
    store.set_attr(job.study, job.number, "error", error)
    job.study.tell(job.number, state=TrialState.FAIL)


def missing_baselines(
    store: StudyStore, space: SearchSpecification, measure: Measure
) -> list[tuple[str, Architecture, bool]]:
    """Baselines and repeats that the study lacks: (reference, network, is it a repeat)."""
    have: dict[str, int] = {}
    for trial in store.baselines.get_trials(deepcopy=False):
        if "record" in trial.user_attrs and fidelity_of(trial) is Fidelity.SCREENING:
            fingerprint = trial.user_attrs["record"]["fingerprint"]
            have[fingerprint] = have.get(fingerprint, 0) + 1
    wanted = [
        (name, network.replace(num_classes=_num_classes(space, network)))
        for name, network in baseline_architectures(space)
    ]
    if space.settings.references == "auto":
        wanted += chosen_references(space, measure)
    wanted = list({network.fingerprint: (name, network) for name, network in wanted}.values())
    wanted = [(n, a) for n, a in wanted if space.settings.excess(measure(a)) is None]
    missing = [(n, a, False) for n, a in wanted if a.fingerprint not in have]
    if wanted:
        # The noise is measured on the baseline of median cost: neither end is typical.
        by_cost = sorted(wanted, key=lambda w: measure(w[1])[space.settings.metric])
        name, network = by_cost[len(by_cost) // 2]
        trained = max(have.get(network.fingerprint, 0), 1)
        missing += [(name, network, True)] * (space.settings.proxy.noise_seeds - trained)
    return missing


def find_promotions(store: StudyStore, space: SearchSpecification) -> Promotions:
    """Which networks of a study are to be trained longer, by what has been so far."""
    proxy, records = space.settings.proxy, store.records()
    longer = [
        trial.user_attrs["record"]
        for trial in store.baselines.get_trials(deepcopy=False)
        if fidelity_of(trial) is Fidelity.PROMOTION
    ]
    repeats, several = [data for data in longer if data["repeat"]], store.repeats()
    repeated = next((r for r in complete(records) if r.fingerprint in several), None)
    return Promotions(
        space.settings.promotion,
        records,
        {data["trial"] for data in longer if not data["repeat"]},
        repeated,
        proxy.noise_seeds - 1 - len(repeats),
        sum(data["costs"]["mult_adds"] for data in repeats),
        [
            bounds[space.settings.metric]
            for budget in space.settings.budgets
            if space.settings.metric in (bounds := budget.bounds())
        ],
    )


def _num_classes(space: SearchSpecification, network: Architecture) -> int:
    classes = space.template.get("num_classes", network.num_classes)
    return classes if isinstance(classes, int) else network.num_classes
