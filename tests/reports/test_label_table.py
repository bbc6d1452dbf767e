"""A table of labels is read as it comes, its groups stay whole, and its errors name the line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_images import write_noise_images

from mbsearch.data.image_groups import assign_groups, joined_groups
from mbsearch.data.sources import ImageSource, load_source
from mbsearch.errors import DataError
from mbsearch.study.opening import read_study

from .command_line import Ran
from .conftest import SMALL_SPACE, Mbsearch

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")
CLASSES = ("dark", "light")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 12 images, in folders that do not name them."""
    written = write_noise_images(tmp_path / "written", {"train": 12})
    for number, name in enumerate(CLASSES):
        shutil.move(written / "train" / name, tmp_path / "photos" / f"folder {number}")
    return tmp_path / "photos"


def rows() -> list[list[str]]:
    """Path and label of every image."""
    return [
        [f"folder {number}/{i}.png", name] for number, name in enumerate(CLASSES) for i in range(12)
    ]


def write_table(
    photos: Path, body: list[list[str]], header: str = "path,label", name: str = "labels.csv"
) -> Path:
    path = photos / name
    path.write_text("\n".join([header, *map(",".join, body)]) + "\n")
    return path


def labels_by_file(source: ImageSource) -> dict[str, str]:
    """Class of each image of all splits, by the path of its file."""
    return {
        members.pool.where(row): source.class_names[label]
        for members in source.members.values()
        for row, label in zip(members.rows.tolist(), members.labels.tolist(), strict=True)
    }


def splits_by_file(source: ImageSource) -> dict[str, str]:
    """Split of each image, by the path of its file."""
    return {
        members.pool.where(row): kind
        for kind, members in source.members.items()
        for row in members.rows.tolist()
    }


# What is read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header", [("path", "label"), ("File Name", "Category"), ("image", "class")]
)
def test_encoding_delimiter_and_usual_headers_are_recognised(
    photos: Path, encoding: str, delimiter: str, header: tuple[str, str]
) -> None:
    body = [[place, {"dark": "größer", "light": "klein"}[name]] for place, name in rows()]
    text = "\r\n".join(map(delimiter.join, [list(header), *body]))
    path = photos / "labels.csv"
    path.write_bytes(text.encode(encoding))
    source = load_source(str(path), seed=0)
    assert source.class_names == ("größer", "klein")
    assert labels_by_file(source) == {str(photos / place): name for place, name in body}


def test_splits_and_labels_of_a_table_are_those_of_equal_folders(
    photos: Path, tmp_path: Path
) -> None:
    splits = ["Train"] * 8 + ["val"] * 2 + ["TEST"] * 2
    body = [[*row, splits[i % 12]] for i, row in enumerate(rows())]
    source = load_source(write_table(photos, body, "path,label,split"), seed=0)
    for part, first, last in (("train", 0, 8), ("val", 8, 10), ("test", 10, 12)):
        for number, name in enumerate(CLASSES):
            (tmp_path / "sorted" / part / name).mkdir(parents=True)
            for i in range(first, last):
                kept = photos / f"folder {number}" / f"{i}.png"
                shutil.copy(kept, tmp_path / "sorted" / part / name)
    folder = load_source(tmp_path / "sorted", seed=0)
    for kind in ("train", "validation", "test"):
        one, other = source.split(kind, 8), folder.split(kind, 8)
        assert (one.images == other.images).all()
        assert (one.labels == other.labels).all()


def test_the_study_knows_the_images_by_content_wherever_the_table_is(
    photos: Path, tmp_path: Path
) -> None:
    body = rows()
    source = load_source(write_table(photos, body), seed=0)
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    apart = [[str(moved / place), name] for place, name in reversed(body)]
    other = load_source(write_table(tmp_path, apart), seed=0)
    assert source.content_key == other.content_key
    changed = [[place, "dark" if i == 20 else name] for i, (place, name) in enumerate(body)]
    assert load_source(write_table(photos, changed), seed=0).content_key != source.content_key


def test_equal_rows_count_once_and_other_columns_are_named(photos: Path) -> None:
    body = [[*row, "x"] for row in rows()]
    folder, image = body[0][0].split("/")
    again = [f"{folder}/../{folder}/{image}", *body[0][1:]]
    source = load_source(write_table(photos, [*body, again], "path,label,age"), seed=0)
    assert len(labels_by_file(source)) == 24
    assert "rows that name an image again, counted once: 1" in source.notes
    assert "columns that are not used: 'age'" in source.notes


# Groups


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_group_never_spans_two_parts_and_every_part_has_every_class(data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, 3))
    classes = data.draw(st.integers(2, 4))
    # Groups of one class are enough for every part; the others are of any classes.
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=parts, max_size=8))
    pure = [[label] * size for label in range(classes) for size in sizes]
    mixed = data.draw(st.lists(st.lists(st.integers(0, classes - 1), min_size=1), max_size=8))
    members = [*pure, *mixed]
    order = data.draw(st.permutations(range(sum(map(len, members)))))
    labels = np.concatenate([np.array(each) for each in members])[list(order)]
    groups = np.repeat(np.arange(len(members)), [len(m) for m in members])[list(order)]
    shares = {1: [1.0], 2: [0.8, 0.2], 3: [0.7, 0.15, 0.15]}[parts]
    found = assign_groups(labels, groups, shares, data.draw(st.integers(0, 9)))
    if found is None:
        assert mixed, "groups of one class can always be assigned"
        return
    for group in np.unique(groups):
        assert len(set(found[groups == group].tolist())) == 1
    for part in range(parts):
        assert set(labels[found == part].tolist()) == set(range(classes))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(0, 9)), min_size=1))
def test_equal_images_join_their_groups(images: list[tuple[str, int]]) -> None:
    names = [name for name, _ in images]
    contents = [content for _, content in images]
    groups = joined_groups(names, np.array([contents.index(each) for each in contents]))
    if not any(names):
        assert groups is None
        return
    for one, (name, content) in enumerate(images):
        for other, (other_name, other_content) in enumerate(images):
            if (name and name == other_name) or content == other_content:
                assert groups is not None
                assert groups[one] == groups[other]


def test_parts_of_many_groups_have_the_wanted_shares() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 9, 400)
    groups = np.repeat(np.arange(400), sizes)
    labels = (random.random(len(groups)) < 0.2).astype(int)
    parts = assign_groups(labels, groups, [0.7, 0.15, 0.15], 0)
    assert parts is not None
    for label in (0, 1):
        shares = np.bincount(parts[labels == label]) / (labels == label).sum()
        assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.01)


def test_the_groups_of_a_table_stay_whole(photos: Path) -> None:
    body = [[*row, f"p{i % 12 // 2}"] for i, row in enumerate(rows())]
    source = load_source(write_table(photos, body, "path,label,Patient ID"), seed=0)
    splits = splits_by_file(source)
    patients: dict[str, set[str]] = {}
    for place, _, patient in body:
        patients.setdefault(patient, set()).add(splits[str(photos / place)])
    assert all(len(found) == 1 for found in patients.values())
    assert set.union(*patients.values()) == {"train", "validation", "test"}
    assert "groups of images, each in one split: 6" in source.notes


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({3: ["gone.png", "dark"]}, "5: expected an image, got no such file: {photos}/gone.png"),
        (
            {3: ["gone.png", "dark"], 7: ["too.png", "dark"]},
            "5: expected an image, got no such file: {photos}/gone.png (the first of 2 missing",
        ),
        ({2: ["folder 0", "dark"]}, "4: expected the path of an image, got a folder"),
        ({2: ["", "dark"]}, "4: expected a path, got an empty cell"),
        ({2: ["folder 0/2.png", " "]}, "4: expected a label, got an empty cell"),
        ({2: ["folder 0/2.png"]}, "4: expected 2 cells as in the first row, got 1"),
        (
            {5: ["folder 0/2.png", "light"]},
            "7: expected the label 'dark' that line 4 gives to {photos}/folder 0/2.png, got 'lig",
        ),
    ],
)
def test_an_error_names_file_and_line(
    photos: Path, change: dict[int, list[str]], message: str
) -> None:
    body = [change.get(i, row) for i, row in enumerate(rows())]
    path = write_table(photos, body)
    with pytest.raises(DataError) as error:
        load_source(path, seed=0)
    assert str(error.value).startswith(f"{path}:{message.format(photos=photos)}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("split", "tset", "got 'tset'; did you mean 'test'?"),
        ("split", "", "expected a split (train, validation or test), got an empty cell"),
        ("label", "lihgt", "expected a label of the training images (dark, light), got 'lihgt'"),
        ("group", "p0", "expected group 'p0' in one split, got test here and train in line 2"),
    ],
)
def test_an_error_of_splits_names_file_and_line(
    photos: Path, column: str, value: str, message: str
) -> None:
    body = [[*row, "test" if i % 12 > 8 else "train", f"p{i}"] for i, row in enumerate(rows())]
    body[11][("path", "label", "split", "group").index(column)] = value
    path = write_table(photos, body, "path,label,split,group")
    with pytest.raises(DataError, match=r"labels\.csv:13: ") as error:
        load_source(path, seed=0)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns 'path' and 'label'"),
        ("path,lable\na.png,cat\n", "got 'path', 'lable'; did you mean 'lable'?"),
        (
            "file,image,label\n",
            "expected the column 'path' once, got it twice ('file' and 'image')",
        ),
        ("path,label\n", "expected a row for each image, got only a header"),
        ("x" * 140_000, "labels.csv:1: expected CSV, got an error: field larger than"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError) as error:
        load_source(tmp_path / "labels.csv", seed=0)
    assert message in str(error.value)


def test_too_few_groups_of_a_class_are_refused(photos: Path) -> None:
    body = [[*row, f"{row[1]}{i % 2 if row[1] == 'dark' else i}"] for i, row in enumerate(rows())]
    with pytest.raises(DataError, match=r"class 'dark': expected enough groups .* got 2"):
        load_source(write_table(photos, body, "path,label,group"), seed=0)


def test_equal_images_of_two_labels_and_files_that_are_no_images_are_refused(photos: Path) -> None:
    shutil.copy(photos / "folder 0" / "1.png", photos / "copy.png")
    path = write_table(photos, [*rows(), ["copy.png", "light"]])
    with pytest.raises(DataError, match="expected an image of one class, got the content of"):
        load_source(path, seed=0)
    (photos / "note.txt").write_text("no image")
    source = load_source(write_table(photos, [*rows(), ["note.txt", "light"]]), seed=0)
    assert len(labels_by_file(source)) == 24
    with pytest.raises(DataError, match=r"note\.txt: expected an image, got a file that cannot be"):
        source.require_undamaged()


# From search to files


@in_process
@pytest.mark.slow
def test_a_study_of_a_table_and_a_score_is_resumed_and_retrained_where_the_images_are_now(
    photos: Path, mbsearch: Mbsearch, tmp_path: Path
) -> None:
    weighted = SMALL_SPACE.replace("proxy: {", "proxy: {class_weights: auto, ")
    (tmp_path / "small.yaml").write_text(weighted)
    body = [[*row, f"p{i % 12}"] for i, row in enumerate(rows())]
    table = write_table(photos, body, "path,label,patient")

    def run(trials: int, data: Path, *options: str) -> Ran:
        fixed = ("--space", tmp_path / "small.yaml", "--weights", "none", "--finals", "0")
        how = ("--trials", str(trials), "--jobs", "1", "--no-export", "--data", data)
        return mbsearch("run", *fixed, *how, *options)

    balanced = ("--metric", "balanced_accuracy")
    printed = run(1, table, *balanced).passed()
    assert "groups of images, each in one split: 12" in printed
    assert "validation balanced accuracy" in printed
    moved = photos.rename(tmp_path / "moved") / "labels.csv"
    retrain = ("retrain", "results/small", "--trial", "0", "--epochs", "1", "--seeds", "1")
    assert "expected the study's images, got no such file" in mbsearch(*retrain).refused()
    assert "resuming: 1 of 2 trials" in run(2, moved, *balanced).passed()
    assert "Test balanced accuracy after retraining" in mbsearch(*retrain, "--data", moved).passed()
    evaluation = read_study(tmp_path / "results" / "small").records()[-1].evaluation
    assert evaluation is not None
    assert evaluation.recipe["class_weights"] == "auto"
    assert "objectives was ['balanced_accuracy'" in run(3, moved).refused()
    others = write_table(moved.parent, body[:-1], "path,label,patient")
    assert "its images are others now" in run(3, others, *balanced).refused()
