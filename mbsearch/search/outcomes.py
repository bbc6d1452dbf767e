"""Store the outcomes of trainings: resume, prune, complete or fail their trials."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import TrialState

from mbsearch.config.specification import SearchSpecification
from mbsearch.execution.local import Finished
from mbsearch.execution.protocol import Outcome
from mbsearch.search.finals import FinalRounds
from mbsearch.search.pending import Job, fail
from mbsearch.search.racing import Race
from mbsearch.search.sampler.observations import PARTIAL_ACCURACY
from mbsearch.search.sampler_data import update_sampler_data
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.records import Evaluation, Fidelity, State, TrialRecord, complete
from mbsearch.study.store import StudyStore
from mbsearch.study.training_files import FinalFiles
from mbsearch.study.trial_spec import TrialKind

EPOCHS_DONE = "epochs_done"
"""User attribute of a running final: the epochs in its checkpoint."""


def start_race(store: StudyStore, space: SearchSpecification) -> Race:
    """Return the study's pruning rule, with the learning curves of its completed screenings."""
    settings = space.settings
    race = Race(settings.racing, bool(settings.budgets) and settings.finals.minutes != 0)
    for record in complete(store.records()):
        if record.evaluation is not None:
            race.add(record.cost, record.evaluation.curve)
    return race


@dataclass(frozen=True)
class Outcomes:
    """Stores the outcomes of trainings, and decides which trials are pruned.

    `folder` has the files of finals, and `validation_images` is the number of images behind an
    accuracy. `epochs` is the length of a screening, None for the recipe's.
    """

    store: StudyStore
    space: SearchSpecification
    race: Race
    finals: FinalRounds
    folder: Path
    validation_images: int
    epochs: int | None = None

    def next_pause(self, job: Job) -> int | None:
        """Return the epoch at which a training pauses next; None if it runs to its end.

        A final pauses after every epoch, so that a crash costs at most one. References and
        promotions are never pruned.
        """
        if job.spec.kind is TrialKind.FINAL:
            ahead = job.epochs_done + 1
            assert job.spec.epochs is not None
            return ahead if ahead < job.spec.epochs else None
        if job.spec.kind is TrialKind.SEARCH:
            usual = self.space.settings.proxy.epochs
            return self.race.next_rung(self.epochs or usual, job.epochs_done, usual)
        return None

    def resume(self, job: Job) -> None:
        """Load the checkpoint of an interrupted final into its job."""
        checkpoint, _ = self._files(job)
        if checkpoint.is_file():
            trial = job.study.get_trials(deepcopy=False)[job.number]
            job.checkpoint = checkpoint.read_bytes()
            job.epochs_done = trial.user_attrs.get(EPOCHS_DONE, 0)

    def continue_or_prune(self, job: Job, outcome: Outcome) -> bool:
        """Store a training's progress and return True, or prune its trial and return False.

        To continue, the job gets the checkpoint of the training.
        """
        evaluation = outcome.evaluation
        reason = self._prune_reason(job, evaluation)
        if reason is not None:
            self._prune(job, evaluation, reason)
            return False
        job.epochs_done, job.checkpoint = len(evaluation.curve), outcome.checkpoint
        job.accuracies = tuple(epoch.validation_accuracy for epoch in evaluation.curve)
        if job.spec.kind is TrialKind.FINAL and outcome.checkpoint is not None:
            write_atomically(self._files(job)[0], outcome.checkpoint, exclusive=True)
            self.store.set_attr(job.study, job.number, EPOCHS_DONE, job.epochs_done)
        return True

    def complete(self, job: Job, outcome: Outcome) -> None:
        """Store the evaluation of a completed training, and complete its trial."""
        evaluation, kind = outcome.evaluation, job.spec.kind
        checkpoint, weights = self._files(job)
        if outcome.weights is not None:  # before the trial completes: then its files are there
            write_atomically(weights, outcome.weights, exclusive=True)
        self.store.set_attr(job.study, job.number, "evaluation", evaluation.to_dict())
        self.store.tell(job.study, job.number, job.spec.objectives(evaluation.accuracy))
        if kind.is_repeat:
            return
        if kind.fidelity is Fidelity.SCREENING:
            self.race.add(job.spec.cost, evaluation.curve)
        if kind is TrialKind.FINAL:
            checkpoint.unlink(missing_ok=True)
            self.finals.add(self._record_of(job), evaluation)
        if kind is not TrialKind.SEARCH:
            update_sampler_data(self.store, self.space)

    def fail(self, job: Job, error: str) -> None:
        """Store the error of a training, and set its trial's state to failed."""
        fail(self.store, job, error)
        if job.spec.kind is TrialKind.FINAL:
            self.finals.fail(job.spec.trial)

    def record(self, job: Job, finished: Finished) -> TrialRecord | None:
        """Return the network's record with the outcome of its training; None for a repeat."""
        if job.spec.kind.is_repeat:
            return None
        if job.spec.fidelity is Fidelity.SCREENING:
            return self.store.record(job.study, job.number)
        record = self._record_of(job)
        if finished.outcome is None:
            return replace(record, state=State.FAILED, evaluation=None, error=finished.error)
        evaluation = finished.outcome.evaluation
        if finished.outcome.checkpoint is None:
            return replace(record, evaluation=evaluation)
        reason = self._prune_reason(job, evaluation)
        return replace(record, state=State.PRUNED, evaluation=evaluation, error=reason)

    def _prune_reason(self, job: Job, evaluation: Evaluation) -> str | None:
        if job.spec.kind is TrialKind.FINAL:
            record = self._record_of(job)
            return self.finals.prune_reason(record, evaluation.curve, self.validation_images)
        return self.race.prune_reason(job.spec.cost, evaluation.curve)

    def _predicted_accuracy(self, job: Job, evaluation: Evaluation) -> float | None:
        """Predict the final accuracy of a training that is pruned."""
        if job.spec.kind is TrialKind.FINAL:
            return self.finals.forecast(self._record_of(job), evaluation.curve)
        forecast = self.race.forecast(job.spec.cost, evaluation.curve)
        return None if forecast is None else forecast.accuracy

    def _prune(self, job: Job, evaluation: Evaluation, reason: str) -> None:
        predicted = self._predicted_accuracy(job, evaluation)
        # The reason comes first: a run that is killed in between prunes the trial when it resumes.
        self.store.set_attr(job.study, job.number, "stopped", reason)
        if predicted is not None:
            self.store.set_attr(job.study, job.number, PARTIAL_ACCURACY, predicted)
        self.store.set_attr(job.study, job.number, "evaluation", evaluation.to_dict())
        self.store.tell(job.study, job.number, state=TrialState.PRUNED)
        if job.spec.kind is TrialKind.FINAL:
            self._files(job)[0].unlink(missing_ok=True)
            self.finals.add(self._record_of(job), evaluation)
            update_sampler_data(self.store, self.space)

    def _files(self, job: Job) -> tuple[Path, Path]:
        """Return the paths of a final's checkpoint and weights."""
        files = FinalFiles(self.folder)
        identity = job.spec.fingerprint, job.spec.seed
        return files.checkpoint(*identity), files.weights(*identity)

    def _record_of(self, job: Job) -> TrialRecord:
        """Return the record of the network that a promotion or final trains."""
        return next(r for r in self.store.records() if r.trial == job.spec.trial)
