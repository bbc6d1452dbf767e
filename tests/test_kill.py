"""The real program, real trainings, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
import torch
from processes import fork_servers, workers
from reports.command_line import call

import mbsearch as mb
from mbsearch.study.opening import read_study
from mbsearch.study.records import State, TrialRecord

pytestmark = pytest.mark.slow
Found = TypeVar("Found")

SPACE = """name: kill
resolution: {choices: [64, 80, 96]}
alpha: {choices: [0.5, 0.75, 1.0]}
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, repeats: {choices: [1, 2]}, stride: 2,
     expansion: {choices: [3, 6]}, kernel: {choices: [3, 5]}}
  - {block: separable, channels: 32, stride: 2, repeats: {choices: [1, 2, 3]}}
head: {channels: 64}
baselines:
  - {reference: mobilenet_v1, alpha: 0.25, resolution: 64}
  - {reference: mobilenet_v2, alpha: 0.35, resolution: 64}
proxy: {train_images: 400, validation_images: 200, epochs: 2, noise_seeds: 2}
promotion: {share: 0.9, longer: 2}
weights: none
"""
TRIALS = 6
RUN = ["run", "--no-export", "--space", "kill.yaml", "--trials"]
COMMAND = [*RUN, str(TRIALS), "--finals", "0"]
LONG = [*RUN, "200"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start runs in a folder of their own, and kill them after a failed test."""
    monkeypatch.chdir(tmp_path)
    Path("kill.yaml").write_text(SPACE)
    yield
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.cwd() == str(tmp_path):
                process.kill()


def start(
    command: list[str] = COMMAND, output: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mbsearch", *command],
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # As at a terminal: what a shell starts in the background inherits a deafness to Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def records() -> list[TrialRecord]:
    if not Path("results/kill/journal.log").exists():
        return []
    try:
        return read_study(Path("results/kill")).records()
    except mb.StorageError:  # the journal is there, its studies are not yet
        return []


def promotions() -> dict[int, float]:
    """Accuracies after the longer training, by trial."""
    return {r.trial: r.promotion.accuracy for r in records() if r.promotion is not None}


def complete(least: int) -> list[TrialRecord]:
    """Trials that are complete, where there are so many and others are in flight."""
    now = records()
    done = [r for r in now if r.state is State.COMPLETE]
    return done if len(done) >= least and any(r.state is State.RUNNING for r in now) else []


def wait_for(found: Callable[[], Found], process: subprocess.Popen[bytes]) -> Found:
    """Wait until a function returns something, and return it."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if there := found():
            return there
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.2)  # the run needs the cores more than this test does
    pytest.fail("the run did not get there in time")


def test_nothing_finished_is_lost_or_doubled_when_workers_and_the_run_are_killed() -> None:
    process = start()
    wait_for(partial(complete, 1), process)
    trainers = workers(process.pid)
    trainers[0].send_signal(signal.SIGKILL)
    before = {r.trial: (r.fingerprint, r.accuracy) for r in wait_for(partial(complete, 4), process)}
    trainers += workers(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(trainers, timeout=90)
    assert all(w.status() == psutil.STATUS_ZOMBIE for w in alive), "workers outlive their driver"
    orphans = {r.trial for r in records() if r.state is State.RUNNING}
    assert orphans

    process = start()
    wait_for(promotions, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    promoted = promotions()

    call(Path.cwd(), *COMMAND).passed()
    after = records()
    assert promoted.items() < promotions().items(), "the promotions resumed"
    assert {r.trial: (r.fingerprint, r.accuracy) for r in after if r.trial in before} == before
    assert all(r.state is State.COMPLETE for r in after)
    assert orphans <= {r.trial for r in after}
    assert len({r.fingerprint for r in after}) == len(after)
    assert sum(not r.is_baseline for r in after) == TRIALS

    frame = mb.load_results("results/kill")
    assert frame["trial"].is_unique
    assert {"mobilenet_v1", "mobilenet_v2", "search"} == set(frame["origin"])
    shown = call(Path.cwd(), "status", "--json").passed()
    assert {row["trial"] for row in json.loads(shown)} == set(frame.loc[frame["on_front"], "trial"])


def test_a_final_that_is_killed_loses_at_most_one_epoch() -> None:
    """What it had trained before the kill is part of its curve, to the last digit."""
    # With 20 minutes the finals fit, however slow the machine is.
    finals = "budgets: [3M]\nfinals: {minutes: 20, networks: 1, epochs: 5}\n"
    Path("kill.yaml").write_text(SPACE.replace("share: 0.9", "share: 0") + finals)
    process = start([*RUN, "4"])

    def begun() -> dict[Path, int]:
        """Epochs of finals that run, by their checkpoints."""
        found = {}
        for path in Path("results/kill/finals").glob("*/checkpoint.pt"):
            with suppress(OSError, EOFError, RuntimeError):  # it may just be replaced
                found[path] = len(torch.load(path, weights_only=True)["curve"])
        return found

    wait_for(lambda: max(begun().values(), default=0) >= 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (path, epochs) = max(begun().items(), key=lambda each: each[1])
    before = torch.load(path, weights_only=True)["curve"]

    call(Path.cwd(), *RUN, "4").passed()
    fingerprint = path.parent.name.split("-seed")[0]
    (final,) = next(r.finals for r in records() if r.fingerprint == fingerprint)
    assert len(final.curve) == 5
    assert [epoch.train_loss for epoch in final.curve[:epochs]] == [loss for loss, *_ in before]
    assert path.with_name("weights.pt").is_file()
    assert not path.exists()


def test_a_second_run_is_refused_ctrl_c_stops_and_other_settings_are_refused() -> None:
    # 200 trials of 4 epochs take longer than the start of the second process.
    Path("kill.yaml").write_text(SPACE.replace("epochs: 2", "epochs: 4"))
    process = start(LONG)
    wait_for(partial(complete, 1), process)
    refused = call(Path.cwd(), *LONG).refused()
    assert f"being run by process {process.pid}" in " ".join(refused.split())
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=90) == 130
    assert any(r.state is State.COMPLETE for r in records())

    Path("kill.yaml").write_text(SPACE.replace("epochs: 2", "epochs: 3"))
    message = " ".join(call(Path.cwd(), *LONG).refused().split())
    assert "proxy.epochs was 4 and is 3" in message
    assert "--name" in message


def test_ctrl_c_in_the_first_seconds_leaves_no_traceback() -> None:
    """At a terminal it reaches the process that forks the workers too, which is importing torch."""
    process = start(LONG, subprocess.PIPE)
    wait_for(lambda: [s for s in fork_servers(process.pid) if s.memory_info().rss > 100e6], process)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 130
    assert b"Traceback" not in said
