"""What happens at the worst moment: a torn journal, a full disk, workers that cannot start."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_evaluator import FakeEvaluator
from former_spaces import FORMER_V2
from processes import fork_servers, workers

from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.errors import EvaluationError
from mbsearch.execution.local import Finished, LocalProcesses, settled
from mbsearch.execution.protocol import Task
from mbsearch.progress import Progress
from mbsearch.search.driver import Driver
from mbsearch.search.factory import make_sampler
from mbsearch.space.library import load_reference
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import State, TrialRecord
from mbsearch.study.store import create_study

TINY = load_specification("tiny")
RUN = ["-m", "mbsearch", "run", "--space", str(FORMER_V2), "--sampler", "random", "--jobs", "1"]


class InThisProcess:
    """An executor that works while it is waited for."""

    slots = 2

    def __init__(self) -> None:
        self._evaluator = FakeEvaluator(epochs=TINY.settings.proxy.epochs)
        self._tasks: list[tuple[int, Task]] = []

    def submit(self, ticket: int, task: Task) -> None:
        self._tasks.append((ticket, task))

    def wait(self, timeout: float) -> list[Finished]:
        ticket, task = self._tasks.pop(0)
        return [Finished(ticket, outcome=self._evaluator.evaluate(task))]

    def close(self) -> None:
        self._tasks.clear()


def search(
    journal: Path,
    trials: int,
    space: SearchSpecification = TINY,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    store = create_study(open_journal(journal, create=True), "study")
    store.search.sampler = make_sampler("random", space, seed=0)
    Driver(store, space, InThisProcess(), trials, 0, on_progress).run()


def whole(records: list[TrialRecord]) -> dict[int, tuple[str, float]]:
    return {r.trial: (r.fingerprint, r.accuracy) for r in records if r.state is State.COMPLETE}


def test_a_journal_that_ends_at_any_byte_is_gone_on_with(tmp_path: Path) -> None:
    """A kill, or a power cut, ends the journal anywhere: at a line's end, or inside a line."""
    trials = 6
    search(tmp_path / "whole" / JOURNAL, trials)
    content = (tmp_path / "whole" / JOURNAL).read_bytes()
    rng = random.Random(0)
    cuts = [0, 1, len(content) - 1, len(content), *rng.sample(range(len(content)), 20)]
    for cut in cuts:
        journal = tmp_path / str(cut) / JOURNAL
        journal.parent.mkdir()
        journal.write_bytes(content[:cut])
        before = whole(create_study(open_journal(journal, create=True), "study").records())
        search(journal, trials)
        records = read_study(journal.parent).records()
        after = whole(records)
        assert before.items() <= after.items()
        assert len(after) == len(records)
        searched = [r for r in records if not r.is_baseline]
        assert len(searched) == len({r.fingerprint for r in searched}) == trials


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root mounts file systems")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def table(folder: Path) -> Path:
    """A table without networks of the space: every trial fails with a long message."""
    path = folder / "table.json"
    path.write_text('{"0000000000000000": 0.5}')
    return path


def run(folder: Path, *more: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder, after shell commands that limit it."""
    command = [*RUN, "--results", str(folder), "--table", str(table(folder.parent)), *more]
    return subprocess.run(
        ["bash", "-c", before + 'exec "$0" "$@"', sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
    )


def ended(folder: Path) -> dict[int, TrialRecord]:
    return {r.trial: r for r in read_study(folder).records() if r.state is not State.RUNNING}


def test_a_full_disk_ends_the_run_with_one_message_and_loses_nothing(small_disk: Path) -> None:
    full = run(small_disk, "--trials", "500")
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith("error: ")
    assert "v2/journal.log: cannot be written: No space left" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    before = ended(small_disk)
    assert len(before) > 10
    shutil.copytree(small_disk / "v2", small_disk.parent / "larger" / "v2")
    again = run(small_disk.parent / "larger", "--trials", "30")
    assert again.returncode == 1, again.stderr  # the table has no network
    after = ended(small_disk.parent / "larger")
    assert before.items() <= after.items()


def test_a_file_that_may_not_grow_ends_the_run_the_same_way(tmp_path: Path) -> None:
    full = run(tmp_path / "results", "--trials", "500", before="ulimit -f 300; ")
    assert full.returncode == 2
    assert full.stderr.splitlines()[-1].startswith("error: ")
    assert "File too large" in full.stderr.splitlines()[-1]
    before = ended(tmp_path / "results")
    assert len(before) > 10
    again = run(tmp_path / "results", "--trials", "30")
    assert again.returncode == 1, again.stderr  # the table has no network
    assert before.items() <= ended(tmp_path / "results").items()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process forks them")
def test_the_process_that_forks_the_workers_is_killed() -> None:
    tasks = [Task(load_reference("mobilenet_v2"), seed) for seed in range(8)]
    with LocalProcesses(FakeEvaluator(seconds=0.3), 2, imports=["mbsearch.cost"]) as executor:
        outcomes = []
        for ended in settled(executor, tasks):
            outcomes.append(ended)
            if len(outcomes) in (2, 4):
                for process in (*workers(os.getpid()), *fork_servers(os.getpid())):
                    process.kill()  # the workers too, so that others come
    assert sorted(ended.ticket for ended in outcomes) == list(range(8))
    assert not [ended.error for ended in outcomes if ended.error]


_KEPT: list[Any] = []


def keep_a_semaphore() -> None:
    _KEPT.append(multiprocessing.RLock())


def run_a_task() -> None:
    task = Task(load_reference("mobilenet_v2"), seed=0)
    with LocalProcesses(FakeEvaluator(), 1, keep_a_semaphore, ["mbsearch.cost"]) as executor:
        (ended,) = settled(executor, [task])
    assert ended.error is None


def test_workers_leave_no_semaphores_behind() -> None:
    """Python reports those of killed processes when it exits."""
    code = "import test_crash; test_crash.run_a_task()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_workers_that_cannot_start_stop_the_run() -> None:
    task = Task(load_reference("mobilenet_v2"), seed=0)
    with LocalProcesses(FakeEvaluator(), 2, prepare=partial(os._exit, 3)) as executor:
        executor.submit(1, task)
        with pytest.raises(EvaluationError, match=r"die as soon as .*exit code 3"):
            executor.wait(timeout=300)


def test_the_memory_of_the_driver_stays_flat(tmp_path: Path) -> None:
    sizes: list[int] = []

    def weigh(progress: Progress) -> None:
        if progress.message is not None:
            sizes.append(psutil.Process().memory_info().rss)

    search(tmp_path / JOURNAL, 200, load_specification(FORMER_V2), weigh)
    assert sizes[-1] - sizes[50] < 20e6
