"""Accuracies stand beside the share of the largest class, with the noise of their images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_search import search
from PIL import Image

from .conftest import Mbsearch, search_with

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")
SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, stride: 2, expansion: {choices: [3, 6]}}
head: {channels: 32}
baselines: [{reference: mobilenet_v1, alpha: 0.25, resolution: 32}]
proxy: {epochs: 1, train_images: null, validation_images: null}
"""
RUN = ("--space", "small.yaml", "--data", "photos", "--trials", "2", "--jobs", "1")


def noise_study(mbsearch: Mbsearch, folder: Path, counts: Mapping[str, int]) -> str:
    """Search on pictures of noise, and return what the run printed."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i:03}.png")
    (folder / "small.yaml").write_text(SPACE)
    return search_with(mbsearch, *RUN).passed()


def words(text: str) -> str:
    """A text on one line, as tables and titles wrap."""
    return " ".join(text.split())


# The share of the largest class stands beside every accuracy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "share"),
    [
        ({"sound": 570, "broken": 30}, "0.944"),
        ({"sound": 180, "broken": 20}, "0.867"),
        ({"sound": 160, "broken": 20, "dirty": 20}, "0.767"),
    ],
)
def test_noise_is_never_better_than_the_largest_class(
    images: dict[str, int], share: str, mbsearch: Mbsearch, tmp_path: Path
) -> None:
    of_run = noise_study(mbsearch, tmp_path, images)
    mbsearch("export", "results/small", "-o", "out", "--formats", "yaml").passed()
    mbsearch("report", "results/small", "-o", "report.html").passed()
    texts = {
        "run": of_run,
        "status": mbsearch("status", "results/small").passed(),
        "card": (tmp_path / "out" / "README.md").read_text(),
        "report": (tmp_path / "report.html").read_text(),
    }
    for name, text in texts.items():
        assert f"largest class {share}" in words(text), name
        assert f"than always the largest class, {share}" in words(text), name


@in_process
@pytest.mark.parametrize(
    ("share", "judged"),
    [
        (0.999, "no network is better than always the largest class, 0.999"),
        (1.0, "no network is better than always the largest class, 1.000"),
        (0.1, "largest class 0.100"),
    ],
)
def test_every_place_compares_with_the_largest_class(
    share: float, judged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mbsearch.cli import app
    from mbsearch.dashboard.pages import network
    from mbsearch.dashboard.studies import Library, ResultsFolder
    from mbsearch.study.images_record import IMAGES, ImagesRecord

    store, _ = search(tmp_path / "tiny", trials=6)
    shares = dict.fromkeys(("train", "validation", "test"), share)
    images = ImagesRecord("", ("a", "b"), (0.5,), (0.2,), 1, {}, shares, deep=False)
    store.search.set_user_attr(IMAGES, images.to_dict())
    store.search.set_user_attr("stamp", {"data": "embedded", "data_key": "45cd70", "seed": 0})
    for command in (
        ["status"],
        ["report", "-o", str(tmp_path / "report.html")],
        ["export", "-o", str(tmp_path / "out"), "--formats", "yaml"],
    ):
        app([command[0], str(tmp_path / "tiny"), *command[1:]], standalone_mode=False)
    library = Library(ResultsFolder(tmp_path))
    while (snapshot := library.snapshot(None)).loading:
        pass
    texts = {
        "status": capsys.readouterr().out,
        "report": (tmp_path / "report.html").read_text(),
        "card": (tmp_path / "out" / "README.md").read_text(),
    }
    for name, text in texts.items():
        assert judged in words(text), name
        assert f"largest class {share:.3f}" in words(text), name
    page = str(network.layout(snapshot, {}, library))
    assert f"(largest class {share:.3f})" in page


# With few images nothing is certain


@pytest.mark.slow
@pytest.mark.parametrize(("count", "classes", "images"), [(4, 10, 10), (5, 6, 6), (8, 3, 4)])
def test_a_few_pictures_a_class_never_give_a_lead(
    mbsearch: Mbsearch, tmp_path: Path, count: int, classes: int, images: int
) -> None:
    text = noise_study(mbsearch, tmp_path, {f"class {i}": count for i in range(classes)})
    status = mbsearch("status", "results/small", "--budget", "1G")
    if "No such option" in status.text:
        status = mbsearch("status", "results/small")
    text += status.passed()
    assert "± 0.000" not in text
    assert not re.search(r"(?<!not )significant\b", text)
    assert f"not significant: {images} images are too few" in words(text)
    found = re.findall(r"accuracy \d\.\d+ \(95 % interval (\S+) to (\S+?)[,)]", words(text))
    assert found
    assert all(float(high) - float(low) > 0.2 for low, high in found)


def right(count: int, of: int) -> np.ndarray:
    return np.arange(of) < count


@in_process
@pytest.mark.parametrize("images", [2, 4, 10, 29])
@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_few_images_never_call_a_lead_however_many_the_seeds(images: int, seeds: int) -> None:
    from mbsearch.analysis.paired_comparison import compare
    from mbsearch.analysis.repeated_trainings import Trainings
    from mbsearch.space.size import Size
    from mbsearch.study.records import Predictions

    def trained(correct: int) -> Trainings:
        labels = np.zeros(images, np.uint16)
        predicted = (~right(correct, images)).astype(np.uint16)
        kept = [Predictions(labels, predicted)] * seeds
        return Trainings([correct / images] * seeds, kept, Size.square(32), images)

    best, worst = trained(images), trained(0)
    margin = best.margin(worst, 0.01)
    assert margin.mean == 1.0
    assert not margin.significant
    assert f"not significant: {images} images are too few" in margin.in_points()
    assert not compare([right(images, images)] * seeds, [right(0, images)] * seeds).significant
    assert best.accuracy(0.01).low < 1 - 0.5 / images, "an accuracy of 1 has an interval"


@in_process
@pytest.mark.parametrize(
    ("accuracy", "images", "low", "high"),  # Wilson (1927), 95 %
    [
        (1.0, 4, 0.510, 1.0),
        (1.0, 10, 0.722, 1.0),
        (0.95, 100, 0.888, 0.978),
        (0.5, 1000, 0.469, 0.531),
    ],
)
def test_intervals_without_noise_of_seeds_are_wilsons(
    accuracy: float, images: int, low: float, high: float
) -> None:
    from mbsearch.analysis.repeated_trainings import Trainings
    from mbsearch.space.size import Size

    found = Trainings([accuracy] * 3, [], Size.square(32), images).accuracy(0.0)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-3)


@in_process
@pytest.mark.parametrize("images", [30, 300, 3000])
def test_many_images_call_a_large_lead(images: int) -> None:
    from mbsearch.analysis.paired_comparison import compare

    first = [right(images, images)]
    assert compare(first, [right(0, images)]).significant
    assert not compare(first, first).significant


@in_process
@pytest.mark.parametrize("count", [4, 25, 1000])
def test_the_noise_of_an_accuracy_covers_its_images(count: int, tmp_path: Path) -> None:
    store, _ = search(tmp_path / "tiny", trials=3)
    evaluation = next(r.evaluation for r in store.records() if r.evaluation is not None)
    found = store._noise_of(promoted=False)(replace(evaluation, accuracy=1.0, images=count))
    assert found is not None
    assert found > 0.5 / (count + 1)
