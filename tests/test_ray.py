"""A real Ray cluster of two nodes on this machine.

With MBSEARCH_STORM set, of full size: 400 trials on 8 CPUs, a kill every second, on both storages.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest
from fake_evaluator import FakeEvaluator

from mbsearch.config.specification import load_specification
from mbsearch.errors import ClusterError, StorageError
from mbsearch.execution.local import Finished
from mbsearch.execution.protocol import Task
from mbsearch.execution.ray import RayCluster
from mbsearch.space.library import load_reference
from mbsearch.study.opening import read_study
from mbsearch.study.records import State, TrialRecord
from mbsearch.study_run import run

pytestmark = pytest.mark.slow

FULL = "MBSEARCH_STORM" in os.environ
# A kill every second; or else as trials end, for a slow machine starts no worker within a second.
TRIALS, PAUSE, BETWEEN = (400, 1, 0) if FULL else (16, 0.3, 2)
SLOW = 0.4 if FULL else 0.1  # seconds of a task where the run must outlast its killed drivers
PATIENCE = 1500 if FULL else 300
STORAGES = ["journal", "postgres"]
NODE: dict[str, Any] = {
    "num_cpus": 4 if FULL else 2,
    "object_store_memory": 80 * 2**20,
    "node_ip_address": "127.0.0.2",  # a loopback address that Ray does not take for localhost
}
PROGRAM = Path(__file__).with_name("storm_run.py")


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Start a head and one more node, and stop them at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Of the nodes, for the evaluator; mbsearch must be the one that is tested.
        patch.setenv("PYTHONPATH", str(PROGRAM.parent), prepend=os.pathsep)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
        cluster.add_node(**NODE)
        yield cluster
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def short_lived() -> Iterator[Any]:
    """A cluster that loses a node."""
    with two_nodes() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of all tests that leave its nodes alone."""
    with two_nodes() as cluster:
        yield cluster


def start(
    folder: Path, storage: str | None, *more: str, seconds: float = 0.1
) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROGRAM), str(folder), "--trials", str(TRIALS)]
    command += ["--storage", storage] if storage else []
    return subprocess.Popen([*command, "--seconds", str(seconds), "--jobs", "2", *more])


def ended(folder: Path, storage: str | None = None) -> dict[int, TrialRecord]:
    """Completed trials by number, without the noise of the study."""
    try:
        records = read_study(folder, storage).records()
    except StorageError:  # the study is not there yet
        return {}
    return {
        r.trial: replace(r, accuracy_noise=None) for r in records if r.state is not State.RUNNING
    }


def worker_processes(cluster: Any) -> list[psutil.Process]:
    """Processes that train, or wait to: neither the cluster's own, nor anybody else's."""
    found = []
    for node in cluster.list_all_nodes():
        raylet = node.all_processes["raylet"][0].process
        if raylet.poll() is None:
            for child in psutil.Process(raylet.pid).children():
                title = " ".join(child.cmdline()[:1])
                if title.startswith(("ray::IDLE", "ray::_evaluate")):
                    found.append(child)
    return found


def check(folder: Path, storage: str | None) -> None:
    """Exactly the requested number of trials is completed, and none is left or missing.

    A trial that was in flight at three kills may have been given up.
    """
    store = read_study(folder, storage)
    records = store.records()
    failed = [r.error or "" for r in records if r.state is State.FAILED]
    given_up = ("gave up after 3", "its worker or node died, 3 times")
    assert not [error for error in failed if not error.startswith(given_up)]
    assert State.RUNNING not in {r.state for r in records}
    searched = [r for r in records if not r.is_baseline]
    assert len(searched) == len({r.fingerprint for r in searched}) == TRIALS
    trials = [t for s in (store.baselines, store.search) for t in s.get_trials(deepcopy=False)]
    numbers = [t.user_attrs["record"]["trial"] for t in trials if "record" in t.user_attrs]
    assert sorted(numbers) == list(range(len(numbers)))


@pytest.mark.parametrize("storage", STORAGES if FULL else ["journal"], indirect=True)
def test_a_search_survives_killed_workers_and_a_killed_node(
    short_lived: Any, tmp_path: Path, storage: str | None
) -> None:
    rng, killed, lost_node, next_kill = random.Random(0), 0, False, 1
    folder, deadline = tmp_path / "storm", time.monotonic() + PATIENCE
    process = start(folder, storage, "--ray", short_lived.address)
    while process.poll() is None:
        assert time.monotonic() < deadline, "the run hangs"
        time.sleep(PAUSE)
        done = len(ended(folder, storage))
        if done >= next_kill or FULL:
            with suppress(IndexError, psutil.NoSuchProcess):
                rng.choice(worker_processes(short_lived)).send_signal(signal.SIGKILL)
                killed, next_kill = killed + 1, done + BETWEEN
        if not lost_node and done > TRIALS / 3:
            (node,) = (n for n in short_lived.list_all_nodes() if not n.head)
            short_lived.remove_node(node, allow_graceful=False)
            lost_node = True
    assert process.returncode == 0
    assert lost_node
    assert killed > 5
    check(folder, storage)


@pytest.mark.parametrize("storage", STORAGES if FULL else ["postgres"], indirect=True)
def test_a_study_resumes_after_its_driver_is_killed_on_either_executor(
    cluster: Any, tmp_path: Path, storage: str | None
) -> None:
    rng, folder = random.Random(0), tmp_path / "storm"
    before: dict[int, TrialRecord] = {}
    for where in ([], ["--ray", cluster.address]) * (10 if FULL else 1):
        process = start(folder, storage, *where, seconds=SLOW)
        deadline = time.monotonic() + PATIENCE
        while len(ended(folder, storage)) == len(before):
            assert time.monotonic() < deadline, "the run hangs"
            assert process.poll() is None, "the run ended too early"
            time.sleep(0.3)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.wait()
        now = ended(folder, storage)
        assert before == {number: now[number] for number in before}
        before = now
    assert start(folder, storage, "--ray", cluster.address).wait(timeout=PATIENCE) == 0
    after = ended(folder, storage)
    assert before == {number: after[number] for number in before}
    check(folder, storage)


def test_what_a_trial_needs_and_how_it_ends(cluster: Any) -> None:
    task = Task(load_reference("mobilenet_v2"), seed=0)

    def outcome(evaluator: FakeEvaluator, **more: Any) -> Finished:
        executor = RayCluster(evaluator, cluster.address, **more)
        try:
            slots = executor.slots
            executor.submit(7, task)
            (finished,) = wait_until_ended(executor)
            assert finished.ticket == 7
            return replace(finished, error=f"{slots} slots: {finished.error}")
        finally:
            executor.close()

    whole = outcome(FakeEvaluator())
    assert whole.outcome == FakeEvaluator().evaluate(task)
    assert whole.error == "4 slots: None"
    assert outcome(FakeEvaluator(), jobs=9).error == "9 slots: None"
    assert "training diverged" in (outcome(FakeEvaluator(fails=True)).error or "")
    dead = outcome(FakeEvaluator(always_dies=True))
    assert "its worker or node died, 3 times" in (dead.error or "")

    with pytest.raises(ClusterError, match="expected nodes with the packages of this machine"):
        outcome(FakeEvaluator(), prepare=NotThere())
    with pytest.raises(ClusterError, match=r"expected a node with 0.25 GPU for a trial, got none"):
        RayCluster(FakeEvaluator(), cluster.address, gpus_per_trial=0.25)
    cluster.add_node(**NODE, num_gpus=1)
    assert outcome(FakeEvaluator(), gpus_per_trial=0.25).error == "2 slots: None"  # of two CPUs
    assert outcome(FakeEvaluator(), gpus_per_trial=1).error == "1 slots: None"
    with pytest.raises(ClusterError, match=r"0 to 1, or a whole number of GPUs, got 1\.5"):
        RayCluster(FakeEvaluator(), cluster.address, gpus_per_trial=1.5)


class NotThere:
    """Cannot be unpickled, as if its module were not installed."""

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, ("not_installed_here",)


def wait_until_ended(executor: RayCluster) -> list[Finished]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        finished = executor.wait(timeout=1)
        if finished:
            return finished
    pytest.fail("the task did not end")


def test_a_run_of_the_command_line_on_a_cluster(cluster: Any, tmp_path: Path) -> None:
    table = tmp_path / "truth.json"
    tiny = load_specification("tiny")
    truth = {tiny.decode(p).fingerprint: 0.5 for p in tiny.enumerate_params()}
    table.write_text(json.dumps(truth))
    command = [sys.executable, "-m", "mbsearch", "run", "--space", "tiny.yaml", "--table"]
    command += [str(table), "--trials", "5", "--ray", cluster.address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(ended(tmp_path / "results" / "tiny")) == 5
    missing = [*command[:-1], "127.0.0.2:1"]
    none = subprocess.run(missing, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert none.returncode == 2
    assert "error: --ray 127.0.0.2:1: expected a Ray cluster, got" in none.stderr
    assert "Traceback" not in none.stderr


def test_a_cluster_that_is_not_there_is_missed_before_a_supernet_is_trained(tmp_path: Path) -> None:
    tiny = load_specification("tiny")
    proxy = tiny.settings.proxy.model_copy(update={"evaluator": "supernet"})
    with pytest.raises(ClusterError, match=r"--ray 127.0.0.2:1: expected a Ray cluster, got"):
        run(
            tiny.with_settings({"proxy": proxy}),
            trials=1,
            folder=tmp_path / "tiny",
            ray="127.0.0.2:1",
            on_progress=lambda _: pytest.fail("trained"),
        )


def test_without_ray_the_command_that_installs_it_is_said(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None; from mbsearch import cli; "
        "cli.main(['run', '--space', 'tiny.yaml', '--trials', '1', '--ray', 'auto'])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'mbsearch[ray]'" in done.stderr
    assert "Traceback" not in done.stderr
