"""Store accuracies of promotions, finals and references where the search's sampler reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from optuna.trial import TrialState

from mbsearch.config.families import DONORS
from mbsearch.config.specification import SearchSpecification
from mbsearch.errors import SpecError
from mbsearch.search.estimates import denoised_promotions
from mbsearch.search.sampler.observations import ANCHORS, FINALS, PARTIAL_ACCURACY, PROMOTED
from mbsearch.study.records import TrialRecord, complete
from mbsearch.study.store import StudyStore


def update_sampler_data(store: StudyStore, space: SearchSpecification) -> None:
    """Store the accuracies of promotions, finals and references in the study's attributes."""
    records = store.records()
    promoted, finals = denoised_promotions(records), _final_accuracies(store, records)
    numbers = store.numbers()
    attributes: dict[str, Any] = {
        PROMOTED: {str(numbers[t]): a for t, a in promoted.items() if t in numbers},
        FINALS: {str(numbers[t]): a for t, a in finals.items() if t in numbers},
        ANCHORS: _anchors(space, records, promoted, finals),
    }
    known = store.settings()
    for key, value in attributes.items():
        if value != known.get(key, type(value)()):
            store.search.set_user_attr(key, value)


def _final_accuracies(store: StudyStore, records: Sequence[TrialRecord]) -> dict[int, float]:
    """Return final validation accuracies by trial number, predicted for pruned finals."""
    pruned = {
        spec.trial: trial.user_attrs[PARTIAL_ACCURACY]
        for trial, spec in store.trials(store.baselines, (TrialState.PRUNED,))
        if PARTIAL_ACCURACY in trial.user_attrs
    }
    return pruned | {
        r.trial: fmean(final.accuracy for final in r.finals) for r in records if r.finals
    }


def _anchors(
    space: SearchSpecification,
    records: Sequence[TrialRecord],
    promoted: Mapping[int, float],
    finals: Mapping[int, float],
) -> list[dict[str, Any]]:
    """Return the references that are networks of the space, as anchors for the sampler's model.

    The donor's own networks are left out: they start from other weights than candidates do.
    """
    found = []
    for record in complete(list(records)):
        if not record.is_baseline or record.evaluation is None or record.origin in DONORS:
            continue
        try:
            params = space.encode(record.architecture)
        except SpecError:
            continue
        found.append(
            {
                "params": space.complete(params),
                "accuracy": record.accuracy,
                "validation_loss": record.evaluation.validation_loss,
                "promoted": promoted.get(record.trial),
                "final": finals.get(record.trial),
            }
        )
    return found
