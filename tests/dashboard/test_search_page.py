"""The page of the search: states, failures, the run in progress."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

from browser import wait_for

from dashboard.page import Page, needs_browser
from mbsearch.dashboard.live_run import duration, live_panel, progress_text
from mbsearch.dashboard.pages import search
from mbsearch.dashboard.studies import Snapshot
from mbsearch.progress import Progress, ignore_progress
from mbsearch.study.opening import read_study
from mbsearch.study.progress_file import PROGRESS, RunProgress, published_progress
from mbsearch.study.records import State

RUNNING = Progress("search", 12, 40, 2, 431.0, message="trial 11: done", curves={3: (0.4, 0.5)})


def test_failures_stand_apart_from_pruned_trials(studies: Path) -> None:
    reason = "pruned after epoch 1: predicted 0.606, needs 0.681"
    first, second, third, *_ = read_study(studies / "first").records()
    pruned = replace(second, state=State.PRUNED, error=reason)
    failed = replace(third, state=State.FAILED, evaluation=None, error="the loss is nan")
    failures, prunings = map(str, search._messages([first, pruned, failed]))
    assert "Failed (1)" in failures
    assert "the loss is nan" in failures
    assert reason not in failures
    assert "Pruned (1)" in prunings
    assert reason in prunings
    assert "nan" not in prunings


def test_the_table_marks_the_front_and_shows_predictions(studies: Path) -> None:
    records = read_study(studies / "first").records()
    records[0] = replace(records[0], predicted=0.5)
    snapshot = Snapshot("first", "first", studies, records=tuple(records))
    rows = search._rows(snapshot)
    assert rows[0]["predicted"] == 0.5
    assert {row["state"] for row in rows} == {"completed"}
    on_front = {row["trial"] for row in rows if row["on_front"] == "yes"}
    assert on_front == search._on_front(snapshot) != {r.trial for r in records}
    assert [row["trial"] for row in search._rows(snapshot, {1})] == [1]


def test_a_run_publishes_its_progress_until_its_end(tmp_path: Path) -> None:
    with published_progress(tmp_path, ignore_progress) as publish:
        publish(RUNNING)
        found = RunProgress.read(tmp_path)
        assert found is not None
        assert (found.completed, found.curves, found.messages) == (
            12,
            {3: (0.4, 0.5)},
            ("trial 11: done",),
        )
        assert progress_text(found) == (
            "Search: 12 of 40 trainings completed, 2 running, about 7 min left"
        )
    assert RunProgress.read(tmp_path) is None


def test_a_killed_run_and_a_damaged_file_are_not_shown(tmp_path: Path) -> None:
    snapshot = Snapshot("a", "a", tmp_path)
    assert live_panel(snapshot) is None
    (tmp_path / PROGRESS).write_text("{")
    assert live_panel(snapshot) is None
    with published_progress(tmp_path, ignore_progress) as publish:
        publish(RUNNING)
        found = RunProgress.read(tmp_path)
    assert found is not None
    for written, shown in ((time.time(), True), (time.time() - 600, False)):
        (tmp_path / PROGRESS).write_text(json.dumps(asdict(replace(found, written=written))))
        assert (live_panel(snapshot) is not None) is shown


def test_durations_have_units() -> None:
    assert [duration(s) for s in (45, 431, 7500)] == ["45 s", "7 min", "2 h 5 min"]


@needs_browser
def test_the_table_is_shown_when_every_training_failed(page: Page) -> None:
    page.open("/search?study=failing", "#trials .ag-row")
    assert "Every training has failed" in page.text("#notice")
    assert "the loss is nan" in page.text("#failed")


@needs_browser
def test_a_run_in_progress_appears_and_disappears(page: Page) -> None:
    page.open("/search?study=first", "#trials .ag-row")
    with published_progress(page.folder / "first", ignore_progress) as publish:
        publish(RUNNING)
        page.wait("#running .main-svg .trace")
        assert "12 of 40 trainings completed" in page.text("#progress")
        assert page.text("#log") == "trial 11: done"
    wait_for(lambda: page.js("document.querySelector('#progress') === null"), "its end")
