"""Kill -9 of workers and of the driver, at random: no completed trial is lost or repeated.

With MBSEARCH_STORM set, everything is of full size: 400 trials, 8 workers, 20 killed drivers.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from processes import workers

from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import State, TrialRecord

pytestmark = pytest.mark.slow

FULL = "MBSEARCH_STORM" in os.environ
TRIALS, JOBS, KILLS = (400, 8, 20) if FULL else (40, 3, 2)
SECONDS = 0.1  # of each task; up to three tasks a trial
SLOW = 0.4 if FULL else 0.15  # where the run must outlast its killed drivers
PROGRAM = Path(__file__).with_name("storm_run.py")
PATIENCE = 1500 if FULL else 300
GIVEN_UP = ("gave up after 3", "its worker process died")  # killed three times


@contextmanager
def running(folder: Path, storage: str | None, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(PROGRAM), str(folder), "--trials", str(TRIALS)]
    command += ["--jobs", str(JOBS), "--seconds", str(SECONDS), *more]
    process = subprocess.Popen(command + (["--storage", storage] if storage else []))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ended(folder: Path, storage: str | None) -> dict[int, TrialRecord]:
    """Completed trials by number, without the noise of the study."""
    records = read_study(folder, storage).records()
    return {
        r.trial: replace(r, accuracy_noise=None) for r in records if r.state is not State.RUNNING
    }


def check(folder: Path, storage: str | None) -> None:
    """Exactly the requested number of trials is completed, each once, and none is left or missing.

    A trial that was in flight at three kills of its driver may have been given up.
    """
    store = read_study(folder, storage)
    records = store.records()
    searched = [r for r in records if not r.is_baseline]
    failed = [r.error or "" for r in records if r.state is State.FAILED]
    assert not [error for error in failed if not error.startswith(GIVEN_UP)]
    assert State.RUNNING not in {r.state for r in records}
    assert len(searched) == TRIALS
    assert len({r.fingerprint for r in searched}) == TRIALS
    trials = [t for s in (store.baselines, store.search) for t in s.get_trials(deepcopy=False)]
    numbers = [t.user_attrs["record"]["trial"] for t in trials if "record" in t.user_attrs]
    assert sorted(numbers) == list(range(len(numbers)))
    if storage is None:
        assert max(times_told(folder / JOURNAL).values()) == 1


def times_told(journal: Path) -> Counter[int]:
    """How often each trial's end was written."""
    lines = map(json.loads, journal.read_text().splitlines())
    return Counter(line["trial_id"] for line in lines if line.get("state") in (1, 2, 3))


@pytest.mark.parametrize("storage", ["journal", "postgres"] if FULL else ["journal"], indirect=True)
def test_a_worker_is_killed_every_second(tmp_path: Path, storage: str | None) -> None:
    rng, killed, deadline = random.Random(0), 0, time.monotonic() + PATIENCE
    with running(tmp_path / "storm", storage) as process:
        while process.poll() is None:
            assert time.monotonic() < deadline, "the run hangs"
            time.sleep(1)
            try:
                rng.choice(workers(process.pid)).send_signal(signal.SIGKILL)
                killed += 1
            except (IndexError, psutil.NoSuchProcess):  # none has started, or all have ended
                pass
        assert process.returncode == 0
    assert killed > 3
    check(tmp_path / "storm", storage)


def test_the_driver_is_killed_at_random_moments(tmp_path: Path, storage: str | None) -> None:
    rng, folder = random.Random(1), tmp_path / "storm"
    before: dict[int, TrialRecord] = {}
    for _ in range(KILLS):
        with running(folder, storage, "--seconds", str(SLOW)) as process:
            wait_for_more(folder, storage, before, process)
            time.sleep(rng.uniform(0, 1))
            process.send_signal(signal.SIGKILL)
        now = ended(folder, storage)
        assert before == {number: now[number] for number in before}
        before = now
    assert len(before) < TRIALS, "the run was over before it was killed"
    with running(folder, storage) as process:
        assert process.wait(timeout=PATIENCE) == 0
    after = ended(folder, storage)
    assert before == {number: after[number] for number in before}
    check(folder, storage)


def wait_for_more(
    folder: Path,
    storage: str | None,
    before: dict[int, TrialRecord],
    process: subprocess.Popen[bytes],
) -> None:
    """Wait until further trials are completed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.3)  # the run needs the cores more than this test does
        if (folder / "driver.lock").exists():
            try:
                if len(ended(folder, storage)) > len(before):
                    return
            except Exception:  # the study is not there yet
                continue
    pytest.fail("the run did not get there in time")
