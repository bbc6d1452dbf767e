"""Studies as mbsearch keeps them in an Optuna storage: written by one driver, read by anyone.

A study NAME is two Optuna studies in one storage: ``NAME`` holds the search trials, and
``NAME.baselines`` what must not meet a sampler: the references, which are not points of the space,
and the longer trainings of promoted networks. Every trial carries its network and cost in the
attribute ``record``, and its outcome in ``evaluation`` or ``error``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mbsearch.errors import StorageError
from mbsearch.space.architecture import Architecture
from mbsearch.study.journal import open_journal
from mbsearch.study.noise import pooled_seed_deviation, standard_error
from mbsearch.study.records import (
    DEFAULT_METRIC,
    SEARCH,
    Epoch,
    Estimate,
    Evaluation,
    Fidelity,
    State,
    TrialRecord,
)

# Optuna announces every study and trial on stderr; what a run shows is the command line's matter.
optuna.logging.set_verbosity(optuna.logging.ERROR)

RESULTS = Path("results")
JOURNAL = "journal.log"
BASELINES = ".baselines"
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


@dataclass(frozen=True)
class StudyStore:
    """An open study: the storage, and the ids of its two Optuna studies."""

    storage: BaseStorage
    name: str
    search: optuna.Study
    baselines: optuna.Study
    _records: dict[int, TrialRecord | None] = field(default_factory=dict, repr=False)
    _evaluations: dict[int, Evaluation] = field(default_factory=dict, repr=False)

    def study_of(self, origin: str) -> optuna.Study:
        """The Optuna study that a trial of this origin belongs to."""
        return self.search if origin == SEARCH else self.baselines

    def set_attr(self, study: optuna.Study, number: int, key: str, value: Any) -> None:
        """Write one attribute of a running trial, also of one that an earlier driver began."""
        self.storage.set_trial_user_attr(self._trial_id(study, number), key, value)

    def record(self, study: optuna.Study, number: int) -> TrialRecord | None:
        """One trial, read without the others."""
        return to_record(self.storage.get_trial(self._trial_id(study, number)))

    def _trial_id(self, study: optuna.Study, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def settings(self) -> dict[str, Any]:
        """What the study was made with: space, proxy, data, versions, noise, targets."""
        return dict(self.search.user_attrs)

    def name_objectives(self, metric: str) -> None:
        """Tell Optuna's own tools what the two objectives are."""
        with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
            for study in (self.search, self.baselines):
                study.set_metric_names(["accuracy", f"log10 {metric}"])

    def records(self) -> list[TrialRecord]:
        """Every trial of the study, baselines and search together, in the order they began."""
        found = [
            record
            for study in (self.baselines, self.search)
            for trial in study.get_trials(deepcopy=False)
            if (record := self._decoded(trial)) is not None
        ]
        return self.joined(found)

    def _decoded(self, trial: FrozenTrial) -> TrialRecord | None:
        """A trial as a record; those that have ended are decoded once."""
        if not trial.state.is_finished():
            return to_record(trial)
        if trial._trial_id not in self._records:
            self._records[trial._trial_id] = to_record(trial)
        return self._records[trial._trial_id]

    def _evaluation(self, trial: FrozenTrial) -> Evaluation:
        """Outcome of a trial that has ended, decoded once."""
        if trial._trial_id not in self._evaluations:
            evaluation = Evaluation.from_dict(trial.user_attrs["evaluation"])
            self._evaluations[trial._trial_id] = evaluation
        return self._evaluations[trial._trial_id]

    def joined(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Records in the order they began, with what other trials tell of them."""
        promotions = self.promotions()
        noise, promotion_noise = self._noise_of(promoted=False), self._noise_of(promoted=True)
        expected, finals = self.expected(), self.finals()
        deviations: dict[str, float] = self.search.user_attrs.get(EXPECTED_DEVIATION, {})
        return [
            replace(
                r,
                accuracy_noise=noise(r.evaluation),
                promotion=promotions.get(r.trial),
                promotion_noise=promotion_noise(promotions.get(r.trial)),
                finals=finals.get(r.trial, ()),
                predicted=expected.get(str(r.trial)),
                predicted_deviation=deviations.get(str(r.trial)),
            )
            for r in sorted(records, key=lambda r: r.trial)
        ]

    def promotions(self) -> dict[int, Evaluation]:
        """Outcomes of the longer trainings, by trial; those that only repeat one are left out."""
        return {
            trial.user_attrs["record"]["trial"]: self._evaluation(trial)
            for trial in self.baselines.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if fidelity_of(trial) is Fidelity.PROMOTION and not trial.user_attrs["record"]["repeat"]
        }

    def finals(self) -> dict[int, tuple[Evaluation, ...]]:
        """Completed trainings by the full recipe, by trial, in the order of their seeds."""
        found: dict[int, list[Evaluation]] = {}
        for trial in self.baselines.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if fidelity_of(trial) is Fidelity.FINAL:
                evaluation = self._evaluation(trial)
                found.setdefault(trial.user_attrs["record"]["trial"], []).append(evaluation)
        return {trial: tuple(sorted(each, key=lambda e: e.seed)) for trial, each in found.items()}

    def expected(self) -> dict[str, float]:
        """Accuracies predicted for the study's networks when its last run ended, by trial."""
        found: dict[str, float] = self.search.user_attrs.get(EXPECTED, {})
        return found

    def expect(self, estimates: Mapping[int, Estimate]) -> None:
        """Keep the predicted accuracies of networks, by trial, instead of those kept before."""
        told = {str(trial): each.accuracy for trial, each in estimates.items()}
        if told != self.expected():
            deviations = {str(trial): each.deviation for trial, each in estimates.items()}
            self.search.set_user_attr(EXPECTED_DEVIATION, deviations)
            self.search.set_user_attr(EXPECTED, told)

    def _noise_of(self, *, promoted: bool) -> Callable[[Evaluation | None], float | None]:
        """The standard error of one evaluation's accuracy, over seeds and validation images.

        It depends on the accuracy and the number of images. Older studies do not know the latter;
        there it is the standard deviation over seeds, the same for all.
        """
        repeats = self.repeats(promoted).values()
        accuracies = [[c[-1].validation_accuracy for c in curves] for curves in repeats]
        pooled = accuracy_noise(accuracies)

        @cache
        def deviation(images: int) -> float:
            return pooled_seed_deviation(accuracies, images)

        def noise(evaluation: Evaluation | None) -> float | None:
            images = None if evaluation is None else evaluation.images
            if evaluation is None or images is None or pooled is None:
                return pooled
            return standard_error(evaluation.accuracy, images, deviation(images))

        return noise

    def noise(self, promoted: bool = False) -> float | None:
        """Standard deviation of one evaluation's accuracy over seeds; None before it is known."""
        repeats = self.repeats(promoted).values()
        return accuracy_noise([[c[-1].validation_accuracy for c in curves] for curves in repeats])

    def repeats(self, promoted: bool = False) -> dict[str, list[tuple[Epoch, ...]]]:
        """Curves of every network that was trained with several seeds, by fingerprint.

        Those of the proxy, or those of the longer training.
        """
        curves: dict[str, list[tuple[Epoch, ...]]] = {}
        for trial in self.baselines.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            kind = Fidelity.PROMOTION if promoted else Fidelity.SCREENING
            if "record" in trial.user_attrs and fidelity_of(trial) is kind:
                fingerprint = trial.user_attrs["record"]["fingerprint"]
                evaluation = self._evaluation(trial)
                curves.setdefault(fingerprint, []).append(evaluation.curve)
        return {key: values for key, values in curves.items() if len(values) > 1}


def accuracy_noise(repeats: Sequence[Sequence[float]]) -> float | None:
    """Pooled standard deviation of the accuracy over seeds; None without repeated networks."""
    freedom = sum(len(values) - 1 for values in repeats)
    if freedom == 0:
        return None
    squares = sum((len(v) - 1) * float(np.var(v, ddof=1)) for v in repeats)
    return math.sqrt(squares / freedom)


def fidelity_of(trial: FrozenTrial) -> Fidelity:
    """How a trial is trained: above screening, it is a longer training of another one's network."""
    return recorded_fidelity(trial.user_attrs.get("record", {}))


def recorded_fidelity(record: Mapping[str, Any]) -> Fidelity:
    """How a trial is trained, from its attribute ``record``; older ones say it by ``promoted``."""
    if "fidelity" in record:
        return Fidelity(record["fidelity"])
    return Fidelity.PROMOTION if record.get("promoted") else Fidelity.SCREENING


def to_record(trial: FrozenTrial) -> TrialRecord | None:
    """What a trial tells the reader; None for what never was one.

    Suggestions that were answered without training (known or over a limit), repeats for the noise
    and longer trainings are not records.
    """
    data = trial.user_attrs.get("record")
    if data is None or data.get("repeat") or fidelity_of(trial) is not Fidelity.SCREENING:
        return None
    evaluation = trial.user_attrs.get("evaluation")
    return TrialRecord(
        trial=data["trial"],
        origin=data["origin"],
        state=_STATES[trial.state],
        architecture=Architecture.model_validate(data["architecture"]),
        costs=data["costs"],
        params=data["params"],
        metric=data.get("metric", DEFAULT_METRIC),  # older studies knew no other
        evaluation=None if evaluation is None else Evaluation.from_dict(evaluation),
        error=trial.user_attrs.get("error", trial.user_attrs.get("stopped")),
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def new_record(
    trial: int,
    origin: str,
    architecture: Architecture,
    costs: Mapping[str, int],
    params: Mapping[str, Any],
    *,
    seed: int,
    metric: str = DEFAULT_METRIC,
    repeat: bool = False,
    fidelity: Fidelity = Fidelity.SCREENING,
) -> dict[str, Any]:
    """The attribute ``record`` of a trial that is about to be trained."""
    return {
        "trial": trial,
        "origin": origin,
        "architecture": architecture.to_dict(),
        "fingerprint": architecture.fingerprint,
        "costs": dict(costs),
        "metric": metric,
        "params": dict(params),
        "seed": seed,
        "repeat": repeat,
        "fidelity": str(fidelity),
    }


def recorded_cost(record: Mapping[str, Any]) -> int:
    """The cost that the study of a trial weighs accuracy against, from its attribute ``record``."""
    cost: int = record["costs"][record.get("metric", DEFAULT_METRIC)]
    return cost


def objectives(evaluation: Mapping[str, Any], record: Mapping[str, Any]) -> list[float]:
    """The two objectives: accuracy up, log10 of the cost down (the scale that samplers like)."""
    return [evaluation["accuracy"], math.log10(recorded_cost(record))]


def create_study(storage: BaseStorage, name: str) -> StudyStore:
    """Open a study for writing, making it where it does not exist.

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


def study_names(storage: BaseStorage) -> list[str]:
    """Names of the studies that a storage holds."""
    names = optuna.get_all_study_names(storage)
    return sorted(n.removesuffix(BASELINES) for n in names if n.endswith(BASELINES))


def open_database(url: str) -> BaseStorage:
    """Open a PostgreSQL database of studies for reading; makes nothing in it.

    Raises:
        StorageError: it is none, or it cannot be reached.
    """
    from mbsearch.study.postgresql import connect  # SQLAlchemy is slow to import

    return connect(url, create=False)


def load_study(storage: BaseStorage, name: str | None = None) -> StudyStore:
    """Open a study for reading; without a name, the only one that the storage holds.

    Raises:
        StorageError: there is no such study, and those that exist are named; or it is damaged.
    """
    known = study_names(storage)
    if name is None and len(known) == 1:
        name = known[0]
    if name is None or name not in known:
        got = "none" if not known else ", ".join(known)
        asked = "one study" if name is None else f"a study {name!r}"
        raise StorageError(f"expected {asked} in the storage, got {got}")
    try:
        search, baselines = (
            optuna.load_study(storage=storage, study_name=each) for each in (name, name + BASELINES)
        )
    except KeyError:
        raise StorageError(
            f"study {name!r}: expected one that is whole, got a damaged one; restore it from a copy"
        ) from None
    return StudyStore(storage, name, search, baselines)


def study_folder(name: str, results: Path = RESULTS) -> Path:
    """Where the files of a study of this name belong.

    Raises:
        StorageError: it is no name of a folder in `results`.
    """
    if Path(name).name != name or name in ("", ".."):
        raise StorageError(f"{results}: expected a study of a folder's name, got {name!r}")
    return results / name


def results_folder(path: Path) -> Path:
    """The folder of a study: `path` itself, or the study below it that was written last.

    Raises:
        StorageError: there is no study.
    """
    if not path.is_dir():
        raise StorageError(
            f"{path}: expected the folder of a study, got no such folder; "
            "make one with `mbsearch run`"
        )
    found = journals(path)
    if not found:
        raise StorageError(
            f"{path}: expected the folder of a study, got one without {JOURNAL}; "
            "make one with `mbsearch run`"
        )
    return max(found, key=lambda journal: journal.stat().st_mtime).parent


def journals(path: Path) -> list[Path]:
    """The journal of a study's folder, or those of the studies below it."""
    own = path / JOURNAL
    return [own] if own.is_file() else list(path.glob(f"*/{JOURNAL}"))


def files_of(path: Path | None = None, database: str | None = None) -> Path:
    """The folder of a study's files, also of one in a database.

    Raises:
        StorageError: there is no study.
    """
    if database is None:
        return results_folder(path or RESULTS)
    return beside_database(path) / read_study(path, database).name


def beside_database(path: Path | None) -> Path:
    """Where the files of a database's studies are: as the `path` to one says, or ``results``."""
    return RESULTS if path is None or path.parent == Path() else path.parent


def read_study(path: Path | None = None, database: str | None = None) -> StudyStore:
    """Open a study for reading: that of a results folder, or that of a database.

    Args:
        path: a study's folder, or one of several: then the newest; ``results`` by default. In a
            database its last part is the study's name; without it, there must be one study only.
        database: a PostgreSQL URL.

    Raises:
        StorageError: there is no such study, its journal is damaged, or the database fails.
    """
    if database is None:
        folder = results_folder(path or RESULTS)
        return load_study(open_journal(folder / JOURNAL, create=False))
    return load_study(open_database(database), path.name if path else None)
