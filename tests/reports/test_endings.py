"""Runs end politely: signals of schedulers, limits of containers, times with their zone."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Self

import pandas as pd
import psutil
import pytest
from fake_evaluator import FakeEvaluator
from fake_search import TINY, search
from noise_images import write_noise_images
from processes import fork_servers

import mbsearch as mb
from mbsearch.config.specification import load_specification
from mbsearch.execution.capacity import usable_cores, usable_memory
from mbsearch.execution.local import LocalProcesses, settled
from mbsearch.execution.protocol import Task
from mbsearch.space.library import load_reference
from mbsearch.study.opening import read_study
from mbsearch.study.records import complete
from mbsearch.study.run_clock import Moment

from . import command_line
from .command_line import VERSION, in_process_of_its_own, write_table
from .conftest import Mbsearch

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")

SPACE = """\
name: long
resolution: {choices: [32, 40, 48]}
alpha: {choices: [0.5, 0.75, 1.0]}
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: {choices: [8, 16]}, stride: 2, expansion: 3}
head: {channels: 32}
proxy: {epochs: 20, train_images: null, validation_images: null}
racing: {rungs: []}
"""


def has_completed_trial(folder: Path) -> bool:
    """Return whether a trial is completed; its evaluation is in the journal a moment earlier."""
    journal = folder / "journal.log"
    if not (journal.exists() and b'"evaluation"' in journal.read_bytes()):
        return False
    return bool(complete(read_study(folder).records()))


@pytest.fixture
def long_run(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a run of many trials in a session of its own, and waits for its first trial."""
    write_noise_images(tmp_path / "images", {"train": 20, "val": 10, "test": 2})
    (tmp_path / "long.yaml").write_text(SPACE)

    def start(*prefix: str) -> subprocess.Popen[str]:
        options = "--space long.yaml --data images --trials 30 --jobs 2 --weights none --finals 0"
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "mbsearch", "run", *options.split()],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": VERSION, "MBSEARCH_CACHE": str(tmp_path / "cache")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
        )
        folder = tmp_path / "results" / "long"
        deadline = time.monotonic() + 60
        while not has_completed_trial(folder):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return process

    return start


# 17. Schedulers and closed terminals


def interrupted(process: subprocess.Popen[str], folder: Path, sent: signal.Signals) -> None:
    """Assert that a run has ended as by Ctrl-C."""
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + sent
    assert "Traceback" not in text
    assert text.count("interrupted; completed trials are saved") == 1
    assert (folder / "trials.csv").exists()
    assert (folder / "front.html").exists()
    store = read_study(folder)
    trials = [*store.search.get_trials(), *store.baselines.get_trials()]
    running = [trial for trial in trials if not trial.state.is_finished()]
    assert running
    assert {trial.user_attrs.get("attempts", 0) for trial in running} == {0}


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_of_a_run_ends_it_as_ctrl_c_does(
    long_run: Callable[..., subprocess.Popen[str]], tmp_path: Path, sent: signal.Signals
) -> None:
    process = long_run()
    others = psutil.Process(process.pid).children(recursive=True)
    assert len(others) >= 3
    os.killpg(process.pid, sent)
    interrupted(process, tmp_path / "results" / "long", sent)
    _, alive = psutil.wait_procs(others, timeout=20)
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.slow
def test_a_run_under_nohup_outlives_its_terminal_and_ends_by_sigterm(
    long_run: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = long_run("nohup")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    interrupted(process, tmp_path / "results" / "long", signal.SIGTERM)


@in_process
@pytest.mark.parametrize(
    ("command", "trainer"),
    [
        ("audit --networks 6 --weights none --space tiny", "mbsearch.audit.run.audit"),
        ("retrain study --trial 0", "mbsearch.retraining.run.retrain_study"),
        ("run --space tiny --weights none", "mbsearch.study_run.run"),
    ],
)
def test_an_interrupted_command_says_in_one_line_how_to_resume(
    mbsearch: Mbsearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, trainer: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    store, _ = search(tmp_path / "study", trials=1)
    store.search.set_user_attr("space_yaml", TINY.to_yaml())
    store.search.set_user_attr("stamp", {"data": "embedded", "data_key": "", "seed": 0})
    monkeypatch.setattr(trainer, interrupt)
    ran = mbsearch(*command.split())
    assert ran.code == 130
    (line,) = [line for line in ran.text.splitlines() if line.startswith("interrupted")]
    assert "are saved. Run the same command to resume" in line


# 22. Callers and surroundings

OWN = """\
import mbsearch as mb
from fake_evaluator import FakeEvaluator
from fake_search import TINY, search
class Own(FakeEvaluator):
    pass
"""
CALL = "print(len(mb.run(mb.load('tiny'), trials=2, jobs=1, progress=False, evaluator={}())))\n"
GUARDED = "if __name__ == '__main__':\n    "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        (OWN + CALL.format("FakeEvaluator"), ["script.py"], "6"),
        (OWN + GUARDED + CALL.format("Own"), ["script.py"], "6"),
        (OWN + CALL.format("Own"), ["script.py"], 'call it under `if __name__ == "__main__":`'),
        (
            OWN + CALL.format("Own"),
            ["-"],
            "workers cannot import it from a notebook, from standard",
        ),
        (
            OWN + CALL.format("Own"),
            ["-c", OWN + CALL.format("Own")],
            "workers cannot import it from",
        ),
    ],
    ids=["no guard", "own evaluator, guard", "own, no guard", "own on stdin", "own in -c"],
)
def test_a_caller_works_or_reads_why_not(
    tmp_path: Path, script: str, arguments: list[str], expected: str
) -> None:
    (tmp_path / "script.py").write_text(script)
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, *arguments],
        input=script,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{VERSION}{os.pathsep}{tests}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    last = (done.stderr if done.returncode else done.stdout).splitlines()[-1]
    assert expected in last, done.stderr
    assert done.stderr.count("Traceback") == (done.returncode != 0), "of the caller alone"


def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no name."""

    def unknown(user: object) -> object:
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def unwritable_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc/nobody")


def unwritable_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/caches")


@in_process
@pytest.mark.parametrize("surroundings", [no_home, unwritable_home, unwritable_caches])
def test_without_a_cache_folder_one_line_names_the_variable(
    mbsearch: Mbsearch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    surroundings: Callable[[pytest.MonkeyPatch], None],
) -> None:
    write_noise_images(tmp_path / "images", {"train": 4, "val": 2, "test": 2})
    monkeypatch.delenv("MBSEARCH_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    surroundings(monkeypatch)
    for data in ("images", "embedded"):
        options = ("--space", "tiny", "--weights", "none", "--data", data, "--trials", "1")
        assert "MBSEARCH_CACHE names another one" in mbsearch("run", *options).refused()
        assert not (tmp_path / "results").exists()


@in_process
@pytest.mark.parametrize("arguments", [["run", "--trials", "1"], ["status"], ["spaces"]])
def test_windows_is_refused_in_one_line(
    mbsearch: Mbsearch, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "mbsearch runs there in WSL 2" in mbsearch(*arguments).refused()


@in_process
def test_the_api_refuses_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(mb.StorageError, match="expected Linux or macOS"):
        mb.run(load_specification("tiny"), trials=1)
    with pytest.raises(mb.StorageError, match="expected Linux or macOS"):
        mb.load_results()


@in_process
def test_a_search_needs_nothing_that_macos_on_arm_lacks(
    mbsearch: Mbsearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernels, no affinity, no glibc, no AVX: a network trains, and its record says float32."""
    import torch

    write_noise_images(tmp_path / "images", {"train": 8, "val": 4, "test": 2})
    (tmp_path / "long.yaml").write_text(SPACE)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("MBSEARCH_ACCEL", "0")
    monkeypatch.delattr(os, "sched_getaffinity")
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    options = "--space long.yaml --data images --trials 1 --weights none --finals 0"
    mbsearch("run", *options.split()).passed()
    (record,) = read_study(tmp_path / "results" / "long").records()
    assert record.evaluation is not None
    assert "bfloat16" not in record.evaluation.device


@in_process
def test_workers_are_spawned_where_forks_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: no fork server, however many modules the tasks need."""
    monkeypatch.setattr(sys, "platform", "darwin")
    before = fork_servers(os.getpid())
    with LocalProcesses(FakeEvaluator(), 1, imports=["mbsearch.cost"]) as executor:
        (ended,) = settled(executor, [Task(load_reference("mobilenet_v2"), seed=0)])
        assert fork_servers(os.getpid()) == before
    assert ended.error is None


# 23. Containers


def _machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@in_process
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "250000 100000"}, 2),
        ({"proc/self/cgroup": "0::/docker/3f", "sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, 64),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/3f\n3:cpu,cpuacct:/docker/3f",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "2:cpuacct,cpu:/slice/job",
                "sys/fs/cgroup/cpu/slice/job/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/slice/job/cpu.cfs_period_us": "50000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            64,
        ),
        ({}, 64),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "damaged"}, 64),
    ],
)
def test_workers_follow_the_cpu_quota_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert usable_cores(_machine(tmp_path, files)) == cores


@in_process
@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "1500000000"},
        {"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/memory.max": "1500000000"},
        {
            "proc/self/cgroup": "7:memory:/docker/3f\n1:cpu:/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1500000000",
        },
    ],
)
def test_workers_follow_the_memory_limit_of_a_container(
    tmp_path: Path, files: dict[str, str]
) -> None:
    assert usable_memory(_machine(tmp_path, files)) == 1.5e9


@in_process
@pytest.mark.parametrize(("gib", "jobs"), [(0.5, 1), (4, 3), (8, 7), (64, 16)])
def test_a_gibibyte_of_memory_is_planned_for_each_worker(
    monkeypatch: pytest.MonkeyPatch, gib: float, jobs: int
) -> None:
    from torch import device

    from mbsearch.training import devices

    monkeypatch.setattr(devices, "usable_cores", lambda: 16)
    monkeypatch.setattr(devices, "usable_memory", lambda: gib * 2**30)
    assert devices.default_jobs(device("cpu")) == jobs


# Looks up every file that Python opens in the folder of a made-up container first.
_CONTAINER = """\
import io, os
os.sched_getaffinity = lambda _: set(range(8))
opened = io.open
def open_inside(path, *more, **options):
    inside = os.path.join(os.path.dirname(__file__), str(path).lstrip("/"))
    return opened(inside if os.path.isfile(inside) else path, *more, **options)
io.open = open_inside
"""


@pytest.mark.parametrize(
    ("group", "limits", "workers"),
    [
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/a/b", {"a/cpu.max": "100000 100000"}, 1),
        (
            "3:cpu:/job",
            {"cpu/job/cpu.cfs_quota_us": "3000", "cpu/job/cpu.cfs_period_us": "1000"},
            3,
        ),
    ],
)
def test_a_search_in_a_container_has_the_workers_of_its_quota(
    tmp_path: Path, group: str, limits: dict[str, str], workers: int
) -> None:
    files = {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    root = _machine(tmp_path / "root", {**files, "proc/self/cgroup": group})
    (root / "sitecustomize.py").write_text(_CONTAINER)
    options = ("--space", "tiny", "--table", write_table(tmp_path), "--trials", "2")
    ran = in_process_of_its_own(tmp_path, "run", *options, PYTHONPATH=os.fspath(root))
    assert f"by {workers} workers" in ran.passed()


# 24. Times


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Moves this process into a time zone."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


@in_process
def test_times_are_told_in_utc_wherever_they_are_read(
    tmp_path: Path, zone: Callable[[str], None]
) -> None:
    zone("Pacific/Auckland")
    search(tmp_path / "study", trials=2)
    texts = set()
    for name in ("Pacific/Auckland", "America/New_York", "Asia/Kolkata", "UTC"):
        zone(name)
        frame = mb.load_results(tmp_path / "study")
        assert all(each.utcoffset().total_seconds() == 0 for each in frame["ended"])
        texts.add(frame[["started", "ended"]].to_csv())
    assert len(texts) == 1
    assert texts.pop().count("+00:00") == 2 * len(frame)


@pytest.mark.parametrize("name", ["Pacific/Auckland", "America/New_York", "Asia/Kolkata"])
def test_the_table_of_trials_says_the_zone_of_its_times(
    tmp_path: Path, name: str, zone: Callable[[str], None]
) -> None:
    zone(name)
    begun = datetime.now(UTC) - timedelta(seconds=1)
    command_line.search(tmp_path, trials=2).passed()
    trials = pd.read_csv(tmp_path / "results" / "tiny" / "trials.csv")
    for text in (*trials["started"], *trials["ended"]):
        told = datetime.fromisoformat(text)
        assert told.tzinfo is not None
        assert begun < told < datetime.now(UTC)


@in_process
@pytest.mark.parametrize("hour", ["2026-10-25T00:30", "2026-10-25T01:30", "2026-03-29T00:59"])
def test_daylight_saving_does_not_change_a_time(
    tmp_path: Path, hour: str, zone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hour that Berlin has twice, and the one that it lacks."""
    then = datetime.fromisoformat(f"{hour}+00:00")

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromisoformat(then.astimezone(tz).isoformat())

    monkeypatch.setattr("mbsearch.study.run_clock.datetime", Then)
    zone("Europe/Berlin")
    store, _ = search(tmp_path / "study", trials=1)
    assert {each for r in store.records() for each in (r.started, r.ended)} == {then}


@in_process
def test_the_order_of_trials_follows_the_clock_of_one_run(tmp_path: Path) -> None:
    """A night between two runs, and a clock that is set back, do not change it."""
    search(tmp_path / "study", trials=2)
    store, _ = search(tmp_path / "study", trials=5)
    records = [r for r in store.records() if not r.is_baseline]
    runs = [r.moment.run for r in records if r.moment is not None]
    assert runs == [1, 1, 2, 2, 2]
    late = [
        replace(r, moment=Moment(run, seconds, datetime(2026, 1, 9 - i, tzinfo=UTC)))
        for i, (r, run, seconds) in enumerate(
            zip(records, runs, (10, 30_000, 4, 6, 8), strict=True)
        )
    ]
    assert [r.trial for r in sorted(late, key=lambda r: r.end_order)] == [r.trial for r in records]
    earlier = [replace(r, moment=None) for r in records]
    assert sorted([*late, *earlier], key=lambda r: r.end_order)[:5] == sorted(
        earlier, key=lambda r: r.ended or datetime.max
    )
