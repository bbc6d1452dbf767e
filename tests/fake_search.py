"""Searches with the fake evaluator, which take milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fake_evaluator import FakeEvaluator

from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.execution.local import LocalProcesses
from mbsearch.execution.protocol import Evaluator
from mbsearch.progress import Progress
from mbsearch.search.driver import Driver
from mbsearch.search.factory import make_sampler
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL
from mbsearch.study.records import TrialRecord
from mbsearch.study.store import StudyStore, create_study

TINY = load_specification("tiny")
SMALL = SearchSpecification(
    TINY.name, {**TINY.template, "resolution": 96, "alpha": 0.5}, TINY.settings
)


def search(
    folder: Path,
    *,
    trials: int,
    evaluator: Evaluator | None = None,
    space: SearchSpecification = TINY,
    jobs: int = 1,
    sampler: str = "random",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[StudyStore, Driver]:
    """Search a space, and return the study and its driver."""
    store = create_study(open_journal(folder / JOURNAL, create=True), space.name)
    store.search.sampler = make_sampler(sampler, space, seed=0)
    with LocalProcesses(evaluator or FakeEvaluator(), jobs) as executor:
        driver = Driver(store, space, executor, trials, 0, on_progress)
        driver.run()
    return store, driver


def outcomes(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    """Return trial, origin, fingerprint and accuracy of each record."""
    return [(r.trial, r.origin, r.fingerprint, r.evaluation and r.accuracy) for r in records]
