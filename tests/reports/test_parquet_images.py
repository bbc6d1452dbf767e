"""Parquet files of images are read as the same images in folders are."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mbsearch.data.cached_files import cached_files
from mbsearch.data.sources import load_source
from mbsearch.errors import DataError

CLASSES = ["cat", "dog", "never used"]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encoded(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    kept = BytesIO()
    Image.fromarray(pixels).save(kept, "PNG")
    return kept.getvalue()


def images(count: int, seed: int = 0) -> list[tuple[bytes, int]]:
    """Return encoded images and their labels, which alternate between two classes."""
    return [(encoded(1000 * seed + i), i % 2) for i in range(count)]


def write(
    path: Path,
    rows: Sequence[tuple[bytes | None, Any]],
    names: list[str] | None = CLASSES,
    more: Mapping[str, Any] | None = None,
    **columns: list[Any],
) -> Path:
    """Write a parquet file as the library `datasets` does; `more` describes further columns."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    cells = {
        "image": [{"bytes": content, "path": f"{i}.png"} for i, (content, _) in enumerate(rows)],
        "label": [label for _, label in rows],
        **columns,
    }
    table = arrow.table(cells)
    if names is not None:
        label = {"names": names, "_type": "ClassLabel"}
        features = {"image": {"_type": "Image"}, "label": label, **(more or {})}
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=5)
    return path


def test_images_labels_and_splits_are_those_of_equal_folders(tmp_path: Path) -> None:
    parts = {"train": images(20), "validation": images(6, 1), "test": images(6, 2)}
    write(tmp_path / "set" / "train-00000-of-00002.parquet", parts["train"][:12])
    write(tmp_path / "set" / "train-00001-of-00002.parquet", parts["train"][12:])
    write(tmp_path / "set" / "validation-00000-of-00001.parquet", parts["validation"])
    write(tmp_path / "set" / "test.parquet", parts["test"])
    (tmp_path / "set" / "README.md").write_text("about")
    for part, rows in parts.items():
        for i, (content, label) in enumerate(rows):
            home = tmp_path / "folders" / part / CLASSES[label]
            home.mkdir(parents=True, exist_ok=True)
            (home / f"{i:03}.png").write_bytes(content)
    found = load_source(tmp_path / "set", seed=0)
    expected = load_source(tmp_path / "folders", seed=0)
    assert found.class_names == expected.class_names == ("cat", "dog")
    assert "left out of set: 1 file (not a parquet file: 1)" in found.notes
    for kind in ("train", "validation", "test"):
        one, other = found.split(kind, 8), expected.split(kind, 8)
        pairs = [
            sorted(
                (int(label), image.numpy().tobytes())
                for label, image in zip(part.labels, part.images, strict=True)
            )
            for part in (one, other)
        ]
        assert pairs[0] == pairs[1]
        assert (one.mean, one.std) == (other.mean, other.std)


def test_a_column_of_lists_beside_images_and_labels_is_ignored(tmp_path: Path) -> None:
    boxes = {"boxes": [{"dtype": "float32", "_type": "Value"}]}
    cells: list[Any] = [[0.5, 0.5]] * 20
    path = write(tmp_path / "all.parquet", images(20), more=boxes, boxes=cells)
    assert load_source(path, seed=0).class_names == ("cat", "dog")


def test_the_study_knows_the_images_by_content(tmp_path: Path) -> None:
    rows = images(20)
    whole = load_source(write(tmp_path / "all.parquet", rows), seed=0)
    (tmp_path / "away").mkdir()
    moved = (tmp_path / "all.parquet").rename(tmp_path / "away" / "renamed.parquet")
    assert load_source(moved, seed=0).content_key == whole.content_key
    write(tmp_path / "set" / "train-0.parquet", rows[:7])
    write(tmp_path / "set" / "train-1.parquet", rows[7:])
    assert load_source(tmp_path / "set", seed=0).content_key == whole.content_key
    relabelled = write(tmp_path / "other.parquet", [*rows[:-1], (rows[-1][0], 0)])
    assert load_source(relabelled, seed=0).content_key != whole.content_key


def test_images_are_extracted_once_and_again_after_the_cache_was_cleared(tmp_path: Path) -> None:
    path = write(tmp_path / "all.parquet", images(20))
    load_source(path, seed=0)
    (extracted,) = (each for each in cached_files(None) if each.kind == "images of parquet files")
    before = {file: file.stat().st_mtime_ns for file in extracted.files}
    key = load_source(path, seed=0).content_key
    assert {file: file.stat().st_mtime_ns for file in extracted.files} == before
    extracted.clear()
    assert load_source(path, seed=0).content_key == key


def test_groups_and_labels_without_a_schema(tmp_path: Path) -> None:
    patients = [f"p{i // 4}" for i in range(24)]
    rows = [(content, ["ill", "well"][label]) for content, label in images(24)]
    path = write(tmp_path / "all.parquet", rows, None, patient_id=patients)
    source = load_source(path, seed=0)
    assert source.class_names == ("ill", "well")
    splits: dict[str, set[str]] = {}
    for kind, members in source.members.items():
        for row in members.rows.tolist():
            number = int(Path(members.pool.where(row)).stem)
            splits.setdefault(patients[number], set()).add(kind)
    assert len(splits) == 6
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((None, 0), "row 3: expected the bytes of an image, got none"),
        ((encoded(3), -1), "row 3: expected a label from 0 to 2, got -1"),
        ((encoded(3), None), "row 3: expected a label from 0 to 2, got None"),
    ],
)
def test_an_error_names_file_and_row(
    tmp_path: Path, row: tuple[bytes | None, Any], message: str
) -> None:
    path = write(tmp_path / "all.parquet", [*images(3), row, *images(8, 1)])
    with pytest.raises(DataError) as error:
        load_source(path, seed=0)
    assert str(error.value).startswith(f"{path}: {message}")


def test_a_damaged_image_is_named_by_its_number(tmp_path: Path) -> None:
    rows: list[tuple[bytes | None, Any]] = [*images(7), (b"no image", 1), *images(12, 1)]
    source = load_source(write(tmp_path / "all.parquet", rows), seed=0)
    with pytest.raises(DataError, match=r"train/0000007\.png: expected an image"):
        source.require_undamaged()


def test_files_that_are_none_of_labelled_images_are_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "text.parquet").write_text("not parquet")
    parquet.write_table(arrow.table({"a": [1], "label": [0]}), tmp_path / "numbers.parquet")
    write(tmp_path / "tests" / "test-0.parquet", images(4))
    write(tmp_path / "mixed" / "train.parquet", images(4))
    write(tmp_path / "mixed" / "extra.parquet", images(4))
    for place, message in {
        "text.parquet": "expected a parquet file, got",
        "numbers.parquet": "expected one column image {bytes, path}, got 'a', 'label'",
        "tests": "expected a file train-*.parquet, got only test-0.parquet",
        "mixed": "extra.parquet: expected a name that begins with train, validation or test",
    }.items():
        with pytest.raises(DataError) as error:
            load_source(tmp_path / place, seed=0)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "all.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'mbsearch\[parquet\]'"):
        load_source(tmp_path / "all.parquet", seed=0)
