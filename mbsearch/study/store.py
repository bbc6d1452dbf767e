"""Studies in an Optuna storage, with one writer and any number of readers.

A study NAME is two Optuna studies in one storage: ``NAME`` holds the search trials, and
``NAME.baselines`` the trials that a sampler must not see. These are the references, which are not
points of the space, repeats, promotions and finals. The user attribute ``record`` of a trial is its
`TrialSpec` as plain data; its outcome is in ``evaluation`` or ``error``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mbsearch.config.scores import Score
from mbsearch.errors import NoStudyError, StorageError
from mbsearch.study.identity import stored_objectives
from mbsearch.study.noise import pooled_seed_deviation, standard_error
from mbsearch.study.records import SEARCH, Epoch, Estimate, Evaluation, Fidelity, State, TrialRecord
from mbsearch.study.run_clock import MOMENT, STARTED, Moment, RunClock
from mbsearch.study.trial_spec import TrialKind, TrialSpec

# Optuna logs every study and trial to stderr; the command line shows its own progress.
optuna.logging.set_verbosity(optuna.logging.ERROR)

BASELINES = ".baselines"
RECORD = "record"
"""User attribute of a trial: its `TrialSpec` as plain data."""
BUDGETS = "budgets"
"""User attribute of a study: the budgets that it answers, as plain data."""
DONOR = "donor"
"""User attribute of a study: facts of the donor that its networks inherit from, as plain data."""
EXPECTED = "expected"
"""User attribute of a study: predicted accuracies of its networks, by the number of the record."""

EXPECTED_DEVIATION = "expected_deviation"
"""User attribute of a study: standard deviations of those predictions."""

DIRECTIONS = (StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE)

_STATES = {
    TrialState.RUNNING: State.RUNNING,
    TrialState.WAITING: State.RUNNING,
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}


class _Added(NamedTuple):
    """The fields of a record that depend on other trials of the study."""

    score: Score
    accuracy_noise: float | None
    promotion: Evaluation | None
    promotion_noise: float | None
    finals: tuple[Evaluation, ...]
    predicted: float | None
    predicted_deviation: float | None


class _Joined(NamedTuple):
    """A trial's own record, the fields that were added to it, and both together."""

    record: TrialRecord
    added: _Added
    whole: TrialRecord


@dataclass(frozen=True)
class StudyStore:
    """An open study: its Optuna storage, and its Optuna studies of candidates and baselines.

    Specifications, completed records and evaluations are decoded once and kept.
    """

    storage: BaseStorage
    name: str
    search: optuna.Study
    baselines: optuna.Study
    _specs: dict[int, TrialSpec] = field(default_factory=dict, repr=False)
    _records: dict[int, TrialRecord | None] = field(default_factory=dict, repr=False)
    _evaluations: dict[int, Evaluation] = field(default_factory=dict, repr=False)
    _joined: dict[int, _Joined] = field(default_factory=dict, repr=False)

    def study_of(self, origin: str) -> optuna.Study:
        """Return the Optuna study with the trials of an origin: ``search`` or a family."""
        return self.search if origin == SEARCH else self.baselines

    def set_attr(self, study: optuna.Study, number: int, key: str, value: Any) -> None:
        """Write a user attribute of a running trial, even if an earlier run began it."""
        self.storage.set_trial_user_attr(self._trial_id(study, number), key, value)

    def tell(
        self,
        study: optuna.Study,
        number: int,
        values: Sequence[float] | None = None,
        state: TrialState | None = None,
    ) -> None:
        """End a running trial, with its time on the clock of this run."""
        self.set_attr(study, number, MOMENT, self.clock.now().to_dict())
        study.tell(number, values, state=state)

    @cached_property
    def clock(self) -> RunClock:
        """Clock of this run, started when the run first starts or ends a trial."""
        moments = (
            _moment(trial)
            for study in (self.search, self.baselines)
            for trial in study.get_trials(deepcopy=False)
        )
        return RunClock(1 + max((each.run for each in moments if each is not None), default=0))

    def record(self, study: optuna.Study, number: int) -> TrialRecord | None:
        """Return the record of one trial, read from the storage."""
        found = self._decoded(self.storage.get_trial(self._trial_id(study, number)))
        return None if found is None else replace(found, score=self.score)

    def trials(
        self, study: optuna.Study, states: Container[TrialState] | None = None
    ) -> Iterator[tuple[FrozenTrial, TrialSpec]]:
        """Yield the trials that were trained, with their specifications."""
        for trial in study.get_trials(deepcopy=False, states=states):
            spec = self.spec(trial)
            if spec is not None:
                yield trial, spec

    def spec(self, trial: FrozenTrial) -> TrialSpec | None:
        """Return a trial's specification; None for a suggestion that was not trained."""
        if trial._trial_id not in self._specs:
            spec = decode_spec(trial)
            if spec is None:  # a running trial may still get one
                return None
            self._specs[trial._trial_id] = spec
        return self._specs[trial._trial_id]

    def numbers(self) -> dict[int, int]:
        """Return each candidate's trial number in Optuna, by its number in the study."""
        return {spec.trial: trial.number for trial, spec in self.trials(self.search)}

    def ended_candidates(self) -> int:
        """Return the number of search trials that were trained and are no longer running."""
        return sum(
            RECORD in trial.user_attrs and trial.state.is_finished()
            for trial in self.search.get_trials(deepcopy=False)
        )

    def has_results(self) -> bool:
        """Whether a trial of the study has completed or been pruned."""
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        return any(next(self.trials(s, ended), None) for s in (self.search, self.baselines))

    def _trial_id(self, study: optuna.Study, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def settings(self) -> dict[str, Any]:
        """Return the study's user attributes: its space, identity, plans and predictions.

        Values are not copied, which takes Optuna's study long, and must not be changed.
        """
        study = self.storage.get_study_id_from_name(self.search.study_name)
        return dict(self.storage.get_study_user_attrs(study))

    @property
    def score(self) -> Score:
        """What the accuracies of the study are."""
        return stored_objectives(self.settings())[0]

    def name_objectives(self, score: Score, metric: str) -> None:
        """Store the names of the two objectives, for Optuna's own tools."""
        with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
            for study in (self.search, self.baselines):
                study.set_metric_names([str(score), f"log10 {metric}"])

    def records(self) -> list[TrialRecord]:
        """Return the records of all baselines and candidates, sorted by trial number."""
        found = [
            record
            for study in (self.baselines, self.search)
            for trial in study.get_trials(deepcopy=False)
            if (record := self._decoded(trial)) is not None
        ]
        return self.joined(found)

    def _decoded(self, trial: FrozenTrial) -> TrialRecord | None:
        """Return a trial's record, which is cached if the trial is no longer running."""
        spec = self.spec(trial)
        if spec is None:
            return None
        if not trial.state.is_finished():
            return _record(trial, spec)
        if trial._trial_id not in self._records:
            self._records[trial._trial_id] = _record(trial, spec)
        return self._records[trial._trial_id]

    def _evaluation(self, trial: FrozenTrial) -> Evaluation:
        """Return a completed trial's evaluation, which is cached."""
        if trial._trial_id not in self._evaluations:
            evaluation = Evaluation.from_dict(trial.user_attrs["evaluation"])
            self._evaluations[trial._trial_id] = evaluation
        return self._evaluations[trial._trial_id]

    def joined(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Sort records by trial, and add their promotion, finals, noise and predicted accuracy."""
        promotions = self.promotions()
        noise, promotion_noise = self._noise_of(promoted=False), self._noise_of(promoted=True)
        predictions, finals, score = self.predictions(), self.finals(), self.score
        deviations: dict[str, float] = self.settings().get(EXPECTED_DEVIATION, {})
        found = []
        for record in sorted(records, key=lambda r: r.trial):
            trial, name = record.trial, str(record.trial)
            added = _Added(
                score,
                noise(record.evaluation),
                promotions.get(trial),
                promotion_noise(promotions.get(trial)),
                finals.get(trial, ()),
                predictions.get(name),
                deviations.get(name),
            )
            known = self._joined.get(trial)
            if known is None or known.record is not record or known.added != added:
                known = _Joined(record, added, replace(record, **added._asdict()))
                self._joined[trial] = known
            found.append(known.whole)
        return found

    def promotions(self) -> dict[int, Evaluation]:
        """Return the evaluations of completed promotions, but not of their repeats, by trial."""
        return {
            spec.trial: self._evaluation(trial)
            for trial, spec in self.trials(self.baselines, (TrialState.COMPLETE,))
            if spec.kind is TrialKind.PROMOTION
        }

    def finals(self) -> dict[int, tuple[Evaluation, ...]]:
        """Return the evaluations of completed finals, by trial, sorted by seed."""
        found: dict[int, list[Evaluation]] = {}
        for trial, spec in self.trials(self.baselines, (TrialState.COMPLETE,)):
            if spec.kind is TrialKind.FINAL:
                found.setdefault(spec.trial, []).append(self._evaluation(trial))
        return {trial: tuple(sorted(each, key=lambda e: e.seed)) for trial, each in found.items()}

    def predictions(self) -> dict[str, float]:
        """Return the accuracies that the last run predicted, by trial."""
        found: dict[str, float] = self.settings().get(EXPECTED, {})
        return found

    def keep_predictions(self, estimates: Mapping[int, Estimate]) -> None:
        """Store predicted accuracies by trial, and replace earlier ones."""
        accuracies = {str(trial): each.accuracy for trial, each in estimates.items()}
        if accuracies != self.predictions():
            deviations = {str(trial): each.deviation for trial, each in estimates.items()}
            self.search.set_user_attr(EXPECTED_DEVIATION, deviations)
            self.search.set_user_attr(EXPECTED, accuracies)

    def _noise_of(self, *, promoted: bool) -> Callable[[Evaluation | None], float | None]:
        """Return a function from an evaluation to the standard error of its accuracy.

        The error covers seeds and validation images, and depends on the accuracy and the number of
        images. Without repeats the deviation over seeds is a usual one. Older studies lack the
        number of images: there the function returns the standard deviation over seeds.
        """
        repeats = self.repeats(promoted).values()
        accuracies = [[c[-1].validation_accuracy for c in curves] for curves in repeats]
        pooled = accuracy_noise(accuracies)

        @cache
        def deviation(images: int) -> float:
            return pooled_seed_deviation(accuracies, images)

        def noise(evaluation: Evaluation | None) -> float | None:
            images = None if evaluation is None else evaluation.effective_images
            if evaluation is None or images is None:
                return pooled
            return standard_error(evaluation.accuracy, images, deviation(images))

        return noise

    def repeats(self, promoted: bool = False) -> dict[str, list[tuple[Epoch, ...]]]:
        """Return the learning curves of networks with several seeds, by fingerprint.

        The curves of screenings, or with `promoted` those of promotions.
        """
        fidelity = Fidelity.PROMOTION if promoted else Fidelity.SCREENING
        # A trial of the search is a screening.
        studies = (self.baselines,) if promoted else (self.search, self.baselines)
        trained: dict[str, list[FrozenTrial]] = {}
        for study in studies:
            for trial, spec in self.trials(study, (TrialState.COMPLETE,)):
                if spec.fidelity is fidelity:
                    trained.setdefault(spec.fingerprint, []).append(trial)
        return {
            fingerprint: [self._evaluation(trial).curve for trial in trials]
            for fingerprint, trials in trained.items()
            if len(trials) > 1
        }


def accuracy_noise(repeats: Sequence[Sequence[float]]) -> float | None:
    """Return the pooled standard deviation of accuracy over seeds; None without repeats."""
    freedom = sum(len(values) - 1 for values in repeats)
    if freedom == 0:
        return None
    squares = sum((len(v) - 1) * float(np.var(v, ddof=1)) for v in repeats)
    return math.sqrt(squares / freedom)


def to_record(trial: FrozenTrial) -> TrialRecord | None:
    """Return a stored trial's record; None if it is not the first training of a network.

    Suggestions that were not trained, repeats and longer trainings have no record of their own.
    """
    spec = decode_spec(trial)
    return None if spec is None else _record(trial, spec)


def decode_spec(trial: FrozenTrial) -> TrialSpec | None:
    """Return a stored trial's specification; None for a suggestion that was not trained."""
    data = trial.user_attrs.get(RECORD)
    return None if data is None else TrialSpec.from_dict(data)


def _record(trial: FrozenTrial, spec: TrialSpec) -> TrialRecord | None:
    if spec.kind not in (TrialKind.SEARCH, TrialKind.BASELINE):
        return None
    evaluation, moment = trial.user_attrs.get("evaluation"), _moment(trial)
    return TrialRecord(
        trial=spec.trial,
        origin=spec.origin,
        state=_STATES[trial.state],
        architecture=spec.architecture,
        costs=spec.costs,
        params=spec.params,
        metric=spec.metric,
        evaluation=None if evaluation is None else Evaluation.from_dict(evaluation),
        error=trial.user_attrs.get("error", trial.user_attrs.get("stopped")),
        started=_started(trial),
        ended=_utc(trial.datetime_complete) if moment is None else moment.time,
        moment=moment,
    )


def _started(trial: FrozenTrial) -> datetime | None:
    text = trial.user_attrs[RECORD].get(STARTED)
    return _utc(trial.datetime_start) if text is None else datetime.fromisoformat(text)


def _utc(local: datetime | None) -> datetime | None:
    """Convert a time from Optuna, which is in this machine's time zone, to UTC.

    In the hour that a zone has twice it may be an hour early.
    """
    return None if local is None else local.astimezone(UTC)


def _moment(trial: FrozenTrial) -> Moment | None:
    """Return the end of a trial on the clock of its run; None in studies of earlier versions."""
    kept = trial.user_attrs.get(MOMENT)
    return None if kept is None else Moment.from_dict(kept)


def create_study(storage: BaseStorage, name: str) -> StudyStore:
    """Open a study for writing, and create it if it does not exist.

    Raises:
        StorageError: the storage cannot be written.
    """
    try:
        search, baselines = (
            optuna.create_study(
                storage=storage, study_name=each, directions=DIRECTIONS, load_if_exists=True
            )
            for each in (name, name + BASELINES)
        )
    except OSError as error:
        raise StorageError(f"study {name}: cannot be written: {error.strerror}") from None
    except ValueError as error:
        raise StorageError(f"study {name}: its journal is damaged: {error}") from None
    return StudyStore(storage, name, search, baselines)


def restarted(store: StudyStore) -> StudyStore:
    """Delete a study with its trials and settings, and create it anew.

    Raises:
        StorageError: the storage cannot be written.
    """
    for study in (store.search, store.baselines):
        optuna.delete_study(study_name=study.study_name, storage=store.storage)
    return create_study(store.storage, store.name)


def study_names(storage: BaseStorage) -> list[str]:
    """Return the names of the studies in a storage."""
    names = optuna.get_all_study_names(storage)
    return sorted(n.removesuffix(BASELINES) for n in names if n.endswith(BASELINES))


def load_study(storage: BaseStorage, name: str | None = None) -> StudyStore:
    """Open a study for reading; without a name, the only study in the storage.

    Raises:
        NoStudyError: there is no such study; the message names those that exist.
        StorageError: it is damaged.
    """
    known = study_names(storage)
    if name is None and len(known) == 1:
        name = known[0]
    if name is None or name not in known:
        got = "none" if not known else ", ".join(known)
        asked = "one study" if name is None else f"a study {name!r}"
        raise NoStudyError(f"expected {asked} in the storage, got {got}")
    try:
        search, baselines = (
            optuna.load_study(storage=storage, study_name=each) for each in (name, name + BASELINES)
        )
    except KeyError:
        raise StorageError(
            f"study {name!r}: it is damaged: expected two Optuna studies, got one; "
            "restore it from a copy"
        ) from None
    return StudyStore(storage, name, search, baselines)
