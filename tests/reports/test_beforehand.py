"""What can be known before a study exists is checked before anything is stored."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from noise_images import write_noise_images
from PIL import Image

from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.data import cache
from mbsearch.execution.protocol import Outcome, Task
from mbsearch.search.factory import SAMPLERS
from mbsearch.study.opening import read_study
from mbsearch.training.proxy import ProxyTraining

from .command_line import Ran
from .conftest import Mbsearch

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")

SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 8, stride: 2, expansion: {choices: [2, 3, 4, 5, 6]}}
head: {channels: 16}
promotion: {share: 0}
"""


@pytest.fixture
def run(mbsearch: Mbsearch, tmp_path: Path) -> Callable[..., Ran]:
    """Runs a search by a proxy with the settings given."""

    def search(proxy: str, *options: str | Path) -> Ran:
        (tmp_path / "small.yaml").write_text(f"{SPACE}proxy: {{{proxy}}}\n")
        fixed = ("--space", tmp_path / "small.yaml", "--weights", "none", "--finals", "0")
        return mbsearch("run", *fixed, "--trials", "1", "--jobs", "1", *options)

    return search


def classes(folder: Path, count: int, images: int = 4) -> Path:
    """A folder of so many classes."""
    rng = np.random.default_rng(0)
    for label in range(count):
        home = folder / f"class {label:02}"
        home.mkdir(parents=True)
        for i in range(images):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(home / f"{i}.png")
    return folder


# 11. Limits, places and settings are checked first


@pytest.mark.parametrize(
    ("proxy", "count", "key", "least"),
    [
        ("validation_images: 20", 21, "proxy.validation_images", 21),
        ("train_images: 24, validation_images: 25", 25, "proxy.train_images", 25),
        ("validation_images: 2", 3, "proxy.validation_images", 3),
    ],
)
def test_fewer_images_than_classes_are_refused_with_key_and_least_value(
    run: Callable[..., Ran], tmp_path: Path, proxy: str, count: int, key: str, least: int
) -> None:
    message = run(proxy, "--data", classes(tmp_path / "photos", count)).refused()
    assert f"{key}: expected at least {least} (one image of each class)" in message
    assert not (tmp_path / "results").exists()


@in_process
@pytest.mark.parametrize("free", [0, 1, 60_000])
def test_a_disk_too_small_for_the_prepared_images_is_refused_before_the_study_exists(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    photos = classes(tmp_path / "photos", 3, images=10)  # 24 training images: 73,728 bytes
    monkeypatch.setattr(cache, "disk_usage", lambda _folder: SimpleNamespace(free=free))
    message = run("epochs: 1", "--data", photos).refused()
    assert str(tmp_path / "cache") in message
    assert f"of free disk space for the prepared images, got {free / 2**20:.1f} MiB" in message
    assert "MBSEARCH_CACHE names another one" in message
    assert not (tmp_path / "results").exists()


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file"


def below_a_file(tmp_path: Path) -> Path:
    return a_file(tmp_path) / "results"


def in_proc(_: Path) -> Path:
    return Path("/proc/results")


@pytest.mark.parametrize("place", [a_file, below_a_file, in_proc])
def test_unwritable_results_are_named_before_images_are_read(
    run: Callable[..., Ran], tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    ran = run("epochs: 1", "--results", place(tmp_path), "--data", classes(tmp_path / "photos", 3))
    assert "cannot be written" in ran.refused()
    assert "--results names another folder" in ran.text
    assert "checking images" not in ran.text
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("data", ["embedded", "photos"])
def test_an_unwritable_cache_is_named_before_anything_is_stored(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str
) -> None:
    classes(tmp_path / "photos", 3)
    monkeypatch.setenv("MBSEARCH_CACHE", "/proc/cache")
    message = run("epochs: 1", "--data", data).refused()
    assert "/proc/cache" in message
    assert "MBSEARCH_CACHE" in message
    assert not (tmp_path / "results").exists()


@in_process
def test_a_study_without_a_completed_trial_takes_corrected_settings(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_noise_images(tmp_path / "photos", {"train": 10, "val": 4, "test": 2})
    kept = ProxyTraining.evaluate

    def interrupt(_: ProxyTraining, __: Task) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProxyTraining, "evaluate", interrupt)
    settings = "epochs: 3, train_images: null, validation_images: null, noise_seeds: 1"
    assert run(settings, "--data", photos).code == 130
    monkeypatch.setattr(ProxyTraining, "evaluate", kept)
    corrected = settings.replace("epochs: 3", "epochs: 1")
    text = run(corrected, "--data", photos).passed()
    assert "no trial has completed; the study starts anew (proxy.epochs was 3 and is 1)" in text
    study = read_study(tmp_path / "results" / "small")
    assert study.settings()["stamp"]["proxy"]["epochs"] == 1
    assert [record.state.value for record in study.records()] == ["complete"]
    refused = run(settings, "--data", photos).refused()
    assert "this study was made by other settings (proxy.epochs was 1 and is 3)" in refused


# 12. Trials in parts

WIDE = """\
name: wide
resolution: {choices: [64, 96, 128]}
alpha: {choices: [0.5, 0.75, 1.0]}
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: {choices: [8, 16, 24]}, stride: 2,
     expansion: {choices: [2, 3, 4]}, kernel: {choices: [3, 5]}}
head: {channels: 16}
"""
SAME_IN_PARTS = {"cost-aware"}
"""Samplers whose trials do not depend on how a search is divided into runs."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Accuracies of all networks of a space."""
    (tmp_path / "wide.yaml").write_text(WIDE)
    space = load_specification(str(tmp_path / "wide.yaml"))
    networks = [space.decode(params) for params in space.enumerate_params()]
    rng = np.random.default_rng(0)
    accuracies = {
        each.fingerprint: 1 - 3 / math.log(measure(each)["mult_adds"]) + 0.02 * rng.random()
        for each in networks
    }
    (tmp_path / "table.json").write_text(json.dumps(accuracies))
    return tmp_path / "table.json"


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_trials_in_parts_are_those_at_once_for_the_samplers_that_docs_name(
    mbsearch: Mbsearch, tmp_path: Path, table: Path, sampler: str
) -> None:
    def search(name: str, trials: int) -> list[str]:
        options = ("--table", table, "--sampler", sampler, "--jobs", "1", "--name", name)
        text = mbsearch("run", "--space", "wide.yaml", *options, "--trials", str(trials))
        text.passed()
        return [record.fingerprint for record in read_study(tmp_path / "results" / name).records()]

    targets = (
        (4, 8) if sampler == "gp" else (8, 16, 24)
    )  # gp takes seconds a trial from the 10th on
    at_once = search("whole", targets[-1])
    parts = [search("parts", trials) for trials in targets]
    first = targets[0]
    assert parts[1][:first] == parts[0] == at_once[:first], "the first run is the same for each"
    assert len(set(parts[-1])) == targets[-1]
    assert (parts[-1] == at_once) == (sampler in SAME_IN_PARTS)
    documented = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
    word = "yes" if sampler in SAME_IN_PARTS else "no"
    assert f"| `{sampler}` | {word} |" in documented
