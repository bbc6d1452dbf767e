"""A study belongs to the content of its images, not to their place or their times."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from noise_images import write_noise_images
from PIL import Image

from mbsearch.data.sources import load_source
from mbsearch.study.images_record import IMAGES, ImagesRecord
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import read_study
from mbsearch.study.store import create_study

from .command_line import Ran
from .conftest import Mbsearch, commands_in

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")

SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 8, stride: 2, expansion: {choices: [2, 3, 4, 5, 6]}}
head: {channels: 16}
proxy: {epochs: 1, train_images: null, validation_images: null, noise_seeds: 1}
promotion: {share: 0}
"""
STUDY = "results/small"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images, and a space beside them."""
    (tmp_path / "small.yaml").write_text(SPACE)
    return write_noise_images(tmp_path / "photos", {"train": 10, "val": 4, "test": 2})


@pytest.fixture
def run(mbsearch: Mbsearch, tmp_path: Path) -> Callable[..., Ran]:
    """Runs a search of so many trials on images."""

    def search(trials: int, data: str | Path, *options: str) -> Ran:
        fixed = ("--space", tmp_path / "small.yaml", "--weights", "none", "--finals", "0")
        return mbsearch(
            "run", *fixed, "--trials", str(trials), "--jobs", "1", "--data", data, *options
        )

    return search


def touched(photos: Path) -> Path:
    for path in photos.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    return photos


def copied(photos: Path) -> Path:
    return Path(shutil.copytree(photos, photos.parent / "elsewhere", copy_function=shutil.copyfile))


def moved(photos: Path) -> Path:
    return photos.rename(photos.parent / "moved")


def linked(photos: Path) -> Path:
    (photos.parent / "link").symlink_to(photos)
    return photos.parent / "link"


# 13. Content, not place and times


@pytest.mark.parametrize("change", [touched, copied, moved, linked])
def test_the_same_images_resume_the_study(
    run: Callable[..., Ran], photos: Path, change: Callable[[Path], Path], tmp_path: Path
) -> None:
    run(1, "photos").passed()
    place = change(photos)
    assert "resuming: 1 of 2 trials" in run(2, place).passed()
    known = read_study(tmp_path / STUDY).settings()["stamp"]
    assert known["data"] == str(place), "absolute"


def changed_pixels(photos: Path) -> None:
    path = photos / "train" / "dark" / "0.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def renamed(photos: Path) -> None:
    path = photos / "train" / "dark" / "0.png"
    path.rename(path.with_name("new.png"))


def relabelled(photos: Path) -> None:
    path = photos / "train" / "dark" / "0.png"
    path.rename(photos / "train" / "light" / "100.png")


@pytest.mark.parametrize("change", [changed_pixels, renamed, relabelled])
def test_other_images_are_refused(
    run: Callable[..., Ran], photos: Path, change: Callable[[Path], None]
) -> None:
    run(1, "photos").passed()
    change(photos)
    assert "its images are others now" in run(2, "photos").refused()


def test_the_recipe_of_retraining_may_change(
    run: Callable[..., Ran], photos: Path, tmp_path: Path
) -> None:
    run(1, photos).passed()
    (tmp_path / "small.yaml").write_text(f"{SPACE}retrain: {{epochs: 7}}\n")
    run(1, photos).passed()
    assert "epochs: 7" in read_study(tmp_path / STUDY).settings()["space_yaml"]


def test_a_forgotten_data_option_is_named(
    run: Callable[..., Ran], mbsearch: Mbsearch, photos: Path
) -> None:
    run(1, photos).passed()
    forgotten = ("run", "--space", "small.yaml", "--weights", "none", "--finals", "0")
    error = mbsearch(*forgotten, "--trials", "2", "--jobs", "1").refused()
    assert f"data was '{photos.absolute()}' and is 'embedded'" in error


def test_a_study_is_exported_and_retrained_from_another_folder(
    run: Callable[..., Ran], photos: Path, tmp_path: Path
) -> None:
    run(1, "photos").passed()
    mean, _ = load_source(str(photos), seed=0).statistics().tolist()
    away = tmp_path / "away"
    write_noise_images(away / "photos", {"train": 3, "val": 3})  # other images of that name
    mbsearch, study = commands_in(away), tmp_path / STUDY
    mbsearch("export", study, "--formats", "yaml", "-o", "out").passed()
    card = (away / "out" / "README.md").read_text()
    assert f"mean ({mean[0]:.6g}, {mean[1]:.6g}, {mean[2]:.6g})" in card
    assert str(tmp_path) not in card
    assert (away / "out" / "labels.txt").read_text() == "dark\nlight\n"
    options = ("--trial", "0", "--seeds", "1", "--epochs", "1")
    assert "expected the images of the search" not in mbsearch("retrain", study, *options).passed()


def test_moved_images_are_named_by_data_and_checked(
    run: Callable[..., Ran], mbsearch: Mbsearch, photos: Path, tmp_path: Path
) -> None:
    run(1, "photos").passed()
    place, study = moved(photos), tmp_path / STUDY
    others = write_noise_images(tmp_path / "others", {"train": 12, "val": 4, "test": 2})
    retrain = ("retrain", study, "--trial", "0", "--seeds", "1", "--epochs", "1")
    assert "--data names where they are now" in mbsearch(*retrain).refused()
    assert (
        "expected the images of the search, got others"
        in mbsearch(*retrain, "--data", others).passed()
    )
    assert "got others" not in mbsearch(*retrain, "--data", place).passed()
    mbsearch("export", study, "--formats", "yaml", "-o", "out").passed()  # from the study's record
    int8 = ("export", study, "--formats", "onnx", "--int8", "-o", "out")
    assert "--data names where they are now" in mbsearch(*int8).refused()
    assert "expected the images of the study" in mbsearch(*int8, "--data", others).refused()
    audit = ("audit", "--space", tmp_path / "small.yaml", "--networks", "6", "--weights", "none")
    assert "expected the images of the study" in mbsearch(*audit, "--data", others).refused()


@pytest.mark.slow
def test_moved_images_calibrate_and_score_an_int8_file(
    run: Callable[..., Ran], mbsearch: Mbsearch, photos: Path, tmp_path: Path
) -> None:
    run(1, "photos").passed()
    place = moved(photos)
    options = ("--formats", "onnx", "--int8", "-o", "out", "--data", place)
    mbsearch("export", tmp_path / STUDY, *options).passed()
    assert (tmp_path / "out" / "model.int8.onnx").exists()


@in_process
def test_a_study_of_an_earlier_version_knows_its_images_by_their_times(
    run: Callable[..., Ran], photos: Path, tmp_path: Path
) -> None:
    """Resumed once on them, it knows their content."""
    run(1, "photos").passed()
    source = load_source(str(photos), seed=0)
    store = create_study(open_journal(tmp_path / STUDY / "journal.log", create=True), "small")
    stamp = store.settings()["stamp"] | {"data": "photos", "data_key": source.former_key}
    store.search.set_user_attr("stamp", stamp)
    store.search.set_user_attr(IMAGES, None)
    assert "resuming: 1 of 2 trials" in run(2, "photos").passed()
    assert "resuming: 2 of 3 trials" in run(3, copied(photos)).passed()
    known = read_study(tmp_path / STUDY).settings()
    assert known["stamp"]["data_key"] == source.former_key, "names of earlier results stay"
    record = ImagesRecord.of(known)
    assert record is not None
    assert record.content == source.content_key
    assert record.class_names == ("dark", "light")


# 16. Classes of few images


def rare(folder: Path, counts: dict[str, int]) -> Path:
    """A folder without splits, with so many images of each class."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("counts", "least", "left"),
    [
        ({"cat": 20, "dog": 20, "emu": 2}, 3, "1 class (emu: 2)"),
        ({"ant": 1, "cat": 20, "dog": 20, "emu": 0}, 3, "2 classes (ant: 1, emu: 0)"),
        ({"cat": 9, "dog": 20, "emu": 30}, 10, "1 class (cat: 9)"),
    ],
)
def test_min_images_leaves_rare_classes_out(
    mbsearch: Mbsearch, tmp_path: Path, counts: dict[str, int], least: int, left: str
) -> None:
    (tmp_path / "small.yaml").write_text(SPACE)
    folder = rare(tmp_path / "photos", counts)
    command = ("run", "--space", "small.yaml", "--weights", "none", "--data", folder, "--dry-run")
    if min(counts.values()) < 3:
        assert "proxy.min_images" in mbsearch(*command).refused()
    text = mbsearch(*command, "--min-images", str(least)).passed()
    assert f"left out by proxy.min_images: {left}" in text
    assert f"{sum(n >= least for n in counts.values())} classes of" in text
    (tmp_path / "small.yaml").write_text(
        SPACE.replace("proxy: {", f"proxy: {{min_images: {least}, ")
    )
    assert f"left out by proxy.min_images: {left}" in mbsearch(*command).passed()


def test_classes_left_out_are_stored_and_a_study_is_bound_to_the_others(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(SPACE)
    rare(tmp_path / "photos", {"bat": 2, "cat": 20, "dog": 20})
    run(1, "photos", "--min-images", "5").passed()
    record = ImagesRecord.of(read_study(tmp_path / STUDY).settings())
    assert record is not None
    assert (record.class_names, record.min_images) == (("cat", "dog"), 5)
    assert record.left_out == {"bat": 2}
    assert "resuming: 1 of 2" in run(2, "photos", "--min-images", "5").passed()


def test_too_large_a_min_images_names_the_largest_that_leaves_two_classes(
    mbsearch: Mbsearch, tmp_path: Path
) -> None:
    (tmp_path / "small.yaml").write_text(SPACE)
    command = ("run", "--space", "small.yaml", "--weights", "none", "--dry-run", "--min-images")
    assert "with at most 8,000" not in mbsearch(*command, "900").passed()
    message = mbsearch(*command, "5000").refused()
    assert re.search(r"\(proxy.min_images\), got 0; with at most 1,000 two are left", message)
