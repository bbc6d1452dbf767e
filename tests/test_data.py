"""Images: sources, splits, cache, batches."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tv

from mbsearch.data import cache, sources, torchvision_sets
from mbsearch.data.batches import Split, batches
from mbsearch.data.decoding import AS_DECLARED, plain
from mbsearch.data.sources import ImageSource, SplitName, load_source
from mbsearch.data.splits import stratified
from mbsearch.errors import DataError

KINDS: tuple[SplitName, ...] = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_classes(folder: Path, counts: dict[str, int], mode: str = "RGB") -> Path:
    """Class folders of small PNG files; every image has its own colour."""
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixel = (40 * label + 10, i, sum(folder.name.encode()) % 256)
            Image.new("RGB", (9, 7), pixel).convert(mode).save(folder / name / f"{i:03}.png")
    return folder


def save_in_classes(image: Image.Image, folder: Path, extension: str, **how: Any) -> None:
    """Three files of equal pixels and different content in each of two classes."""
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for i in range(3):
            path = folder / label / f"{i}.{extension}"
            image.save(path, **how)
            path.write_bytes(path.read_bytes() + f"{label}{i}".encode())


def rows_of(source: ImageSource, kind: SplitName) -> set[tuple[int, int]]:
    members = source.members[kind]
    return {(id(members.pool), row) for row in members.rows.tolist()}


def random_split(count: int, channels: int, side: int) -> Split:
    images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8)
    return Split(images, torch.arange(count), (0.4,) * channels, (0.2,) * channels, count)


# The embedded data set


def test_embedded_is_balanced_and_split_8000_2000_10000() -> None:
    source = load_source("embedded", seed=3)
    for kind, count in zip(KINDS, (8000, 2000, 10_000), strict=True):
        split = source.split(kind, 2)
        assert len(split) == count
        assert split.images.shape == (count, 1, 2, 2)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert torch.bincount(split.labels).tolist() == [count // 10] * 10
        assert split.num_classes == source.num_classes == 10


def test_the_embedded_training_images_and_their_key_are_those_of_the_first_version() -> None:
    """Studies of older versions store the key and were trained on these images."""
    source = load_source("embedded", seed=0)
    pool = source.members["train"].pool
    pixels = b"".join(pool.open(row).tobytes() for row in range(len(pool.labels)))
    assert hashlib.sha256(pixels).hexdigest() == (
        "f8ccd209a37112bfe75947daa38ce4f3ab9fd6bfc8b028b8b765d76c48fee21d"
    )
    validation = source.members["validation"].rows
    assert hashlib.sha256(validation.tobytes()).hexdigest() == (
        "e3046fc2e7477fd40a821d9a6529b85ccfa6eeed5ee44f051d63d6c71344fd74"
    )
    assert source.content_key == (
        "45cd70f53a423b4286e9c1c16a56a6bfd23b416d1bf9f9a3f02d5639a4237cea"
    ), "else an old study could not be resumed"


def test_embedded_statistics_are_those_of_fashion_mnist() -> None:
    split = load_source("embedded", seed=0).split("train", 2)
    assert split.mean == pytest.approx([0.286], abs=0.01)  # of the 60,000: 0.2860 and 0.3530,
    assert split.std == pytest.approx([0.345], abs=0.015)  # less for the smoothing of the resize


def test_statistics_do_not_depend_on_split_limit_or_resolution() -> None:
    source = load_source("embedded", seed=0)
    first, other = source.split("train", 3, limit=50), source.split("test", 4)
    assert (first.mean, first.std) == (other.mean, other.std)


def test_embedded_images_do_not_import_torchvision() -> None:
    code = (
        "import sys; from mbsearch.data.sources import load_source; "
        "load_source('embedded', seed=0); print('torchvision' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_damaged_embedded_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "fashion_mnist.xz"
    damaged.write_bytes(sources._EMBEDDED_FILE.read_bytes()[:-1])
    monkeypatch.setattr(sources, "_EMBEDDED_FILE", damaged)
    with pytest.raises(DataError, match=r"fashion_mnist.xz: .* damaged; expected SHA-256 985c"):
        load_source("embedded", seed=0)
    damaged.unlink()
    with pytest.raises(DataError, match=r"fashion_mnist.xz: cannot read"):
        load_source("embedded", seed=0)


def test_a_source_can_be_pickled() -> None:
    source = load_source("embedded", seed=1)
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy.split("test", 3).images, source.split("test", 3).images)


# Splits


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=6),
    share=st.floats(0, 1),
    keep=st.integers(0, 2),
    seed=st.integers(0, 5),
)
def test_stratified_choice(counts: list[int], share: float, keep: int, seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    most = sum(counts) - keep * len(counts)
    count = len(counts) + round(share * (most - len(counts)))
    chosen, rest = stratified(labels, count, seed, keep=keep)
    assert len(chosen) == count
    assert sorted([*chosen, *rest]) == list(range(len(labels)))
    got = np.bincount(labels[chosen], minlength=len(counts))
    assert got.min() >= 1
    assert (np.array(counts) - got).min() >= keep
    room = np.array(counts) - keep - 1
    exact = 1 + room * (count - len(counts)) / max(1, room.sum())
    assert np.abs(got - exact).max() < 1
    assert np.array_equal(chosen, stratified(labels, count, seed, keep=keep)[0])


@pytest.mark.parametrize(("count", "keep"), [(1, 0), (6, 0), (2, 2), (4, 1)])
def test_impossible_choice(count: int, keep: int) -> None:
    with pytest.raises(ValueError, match=f"cannot choose {count} of 5 rows in 2 classes"):
        stratified(np.array([0, 0, 1, 1, 1]), count, 0, keep=keep)


def test_smaller_limits_are_parts_of_larger_ones() -> None:
    source = load_source("embedded", seed=0)
    small, large = (set(source._limited("train", n).rows.tolist()) for n in (500, 1000))
    assert small < large


def test_limit_below_the_number_of_classes() -> None:
    with pytest.raises(DataError, match=r"at least one train image for each of the 10 .* got 9"):
        load_source("embedded", seed=0).split("train", 2, limit=9)


@pytest.mark.parametrize(
    ("given_parts", "expected"),
    [
        ({"": 40}, (56, 12, 12)),
        ({"train": 40}, (56, 12, 12)),
        ({"train": 40, "test": 5}, (64, 16, 10)),
        ({"train": 40, "valid": 5}, (68, 10, 12)),
        ({"train": 40, "val": 5, "test": 6}, (80, 10, 12)),
        ({"train": 40, "validation": 5, "test": 6}, (80, 10, 12)),
    ],
)
def test_folder_layouts(
    tmp_path: Path, given_parts: dict[str, int], expected: tuple[int, ...]
) -> None:
    for part, count in given_parts.items():
        write_classes(tmp_path / "photos" / part, {"cat": count, "dog": count})
    source = load_source(tmp_path / "photos", seed=0)
    assert source.class_names == ("cat", "dog")
    parts = [rows_of(source, kind) for kind in KINDS]
    assert tuple(map(len, parts)) == expected
    assert len(set.union(*parts)) == sum(expected)  # disjoint
    for kind in KINDS:
        counts = np.bincount(source.members[kind].labels)
        assert counts[0] == counts[1]
    other = load_source(tmp_path / "photos", seed=1)
    again = load_source(tmp_path / "photos", seed=0)
    assert np.array_equal(again.members["train"].rows, source.members["train"].rows)
    assert again.content_key == source.content_key
    if len(given_parts) < 3:
        assert not np.array_equal(other.members["train"].rows, source.members["train"].rows)


def test_images_and_labels_stay_together(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 10, "b": 20, "c": 30})
    source = load_source(folder, seed=0)
    for kind in KINDS:
        split = source.split(kind, 5)
        assert split.images.shape[1:] == (3, 5, 5)
        assert torch.equal(split.images[:, 0, 2, 2].long(), 40 * split.labels + 10)


def test_training_and_validation_images_are_one_split_in_colour_if_either_is(
    tmp_path: Path,
) -> None:
    write_classes(tmp_path / "photos" / "train", {"a": 4, "b": 4}, "L")
    write_classes(tmp_path / "photos" / "val", {"a": 2, "b": 2}, "RGB")
    write_classes(tmp_path / "photos" / "test", {"a": 2, "b": 2})
    source = load_source(tmp_path / "photos", seed=0)
    train, validation = source.split("train", 5), source.split("validation", 5)
    seen = source.seen(5)
    assert torch.equal(seen.images[:8], train.images.expand(-1, 3, -1, -1))
    assert torch.equal(seen.images[8:], validation.images)
    assert torch.equal(seen.labels, torch.cat([train.labels, validation.labels]))
    assert (seen.mean, seen.std) == (train.mean, train.std)


@pytest.mark.parametrize("names", [("Training", "Testing"), ("TRAIN", "Test")])
def test_parts_are_known_in_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    for part in names:
        write_classes(tmp_path / "photos" / part, {"cat": 5, "dog": 5})
    source = load_source(tmp_path / "photos", seed=0)
    assert source.class_names == ("cat", "dog")
    assert len(source.members["test"].rows) == 10


def test_images_in_hidden_folders_are_ignored(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 4, "b": 4})
    write_classes(folder / "a", {".ipynb_checkpoints": 3, "more": 3})
    source = load_source(folder, seed=0)
    assert sum(len(source.members[kind].rows) for kind in KINDS) == 11


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos", {"bus": 5, "test": 5, "train": 5})
    assert load_source(tmp_path / "photos", seed=0).class_names == ("bus", "test", "train")


def test_content_key_follows_the_files(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 4, "b": 4})
    before = load_source(folder, seed=0).content_key
    os.utime(folder / "a" / "000.png", ns=(1, 1))
    assert load_source(folder, seed=0).content_key == before
    Image.new("RGB", (8, 8), "red").save(folder / "a" / "000.png")
    assert load_source(folder, seed=0).content_key != before


# Decoding


@pytest.mark.parametrize("side", [4, 8, 20])
def test_resizing_is_antialiased_bilinear(tmp_path: Path, side: int) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 3, "b": 3})
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    for i, path in enumerate(folder.glob("a/*.png")):
        Image.fromarray(pixels).save(path)
        path.write_bytes(path.read_bytes() + bytes([i]))  # copies would stay together
    split = load_source(folder, seed=0).split("train", side)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    oracle = tv.resize(tensor, [side, side], antialias=True)
    assert (split.images[0].int() - oracle.int()).abs().max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_modes(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (6, 6), 255)
    if mode == "I;16":
        image = Image.fromarray(np.full((6, 6), 65535, np.uint16))
    elif mode == "P":
        image = grey.convert("RGB").quantize(2)
        image.info["transparency"] = b"\x00\x10"
    else:
        image = grey.convert("RGB").convert(mode)
    save_in_classes(image, tmp_path / "photos", "tif" if mode == "CMYK" else "png")
    split = load_source(tmp_path / "photos", seed=0).split("train", 3)
    assert split.images.shape[1] == (1 if mode in ("1", "L", "LA", "I;16") else 3)
    assert bool((split.images == 255).all())
    x, *_ = next(batches(split, 2))
    assert x.shape == (2, 3, 3, 3)
    assert bool(x.isfinite().all())  # constant images have no deviation to divide by


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("L", (8, 8))
    image.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    save_in_classes(image, tmp_path / "photos", "jpg", exif=exif)
    split = load_source(tmp_path / "photos", seed=0).split("train", 2)
    assert split.images[0, 0, 0].max() < 50
    assert split.images[0, 0, 1].min() > 200


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(orientation: int) -> None:
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    image.getexif()[0x0112] = orientation
    upright, expected = plain(image, 1, AS_DECLARED), ImageOps.exif_transpose(image)
    assert np.array_equal(np.asarray(upright), np.asarray(expected))


def test_malformed_exif_data_is_ignored(tmp_path: Path) -> None:
    """Pillow's own function fails where it writes such a tag anew."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0  # lies on its side; XResolution
    Image.new("L", (8, 4), 99).save(tmp_path / "odd.jpg", exif=exif)
    data = (tmp_path / "odd.jpg").read_bytes()
    rational, text = b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02"
    if rational not in data:  # the other byte order
        rational, text = b"\x1a\x01\x05\x00", b"\x1a\x01\x02\x00"
    (tmp_path / "odd.jpg").write_bytes(data.replace(rational, text))
    with Image.open(tmp_path / "odd.jpg") as image:
        assert plain(image, 1, AS_DECLARED).size == (4, 8)
        with pytest.raises((struct.error, TypeError, AttributeError)):
            ImageOps.exif_transpose(image)


# Mistakes


@pytest.mark.parametrize("word", ["cifar1O", "CIFAR10"])
def test_unknown_name(word: str) -> None:
    with pytest.raises(DataError, match=rf"'{word}': .* neither; did you mean 'cifar10'\?"):
        load_source(word, seed=0)


@pytest.mark.parametrize("path", ["x" * 300, "~no such user/photos"])
def test_impossible_path(path: str) -> None:
    with pytest.raises(DataError, match=rf"{path}: (cannot be read: .*long|expected .* home)"):
        load_source(path, seed=0)


def test_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:  # root, who runs some test machines, may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    folder = write_classes(tmp_path / "photos", {"a": 5, "b": 5})
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"photos: cannot be read: Permission denied"):
        load_source(folder, seed=0)


def test_missing_folder_and_file_for_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: expected a folder of images, got no such folder"):
        load_source(tmp_path / "absent", seed=0)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: expected a folder of images, got a file"):
        load_source(str(tmp_path / "file"), seed=0)


def test_folders_without_classes(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(DataError, match=r"photos: expected one folder .* per class, got nothing"):
        load_source(folder, seed=0)
    Image.new("L", (4, 4)).save(folder / "a.png")
    with pytest.raises(DataError, match=r"photos: expected one folder .* per class, got no fold"):
        load_source(folder, seed=0)
    write_classes(folder, {"only": 5})
    with pytest.raises(DataError, match=r"photos: expected at least two .* got only 'only'"):
        load_source(folder, seed=0)


def test_class_without_images(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 5, "b": 5})
    (folder / "c").mkdir()
    (folder / "c" / "._0.png").touch()  # macOS leaves such files; they are no images
    with pytest.raises(DataError, match=r"photos/c: expected images that Pillow opens, got only"):
        load_source(folder, seed=0)


def test_parts_with_different_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos" / "train", {"a": 5, "b": 5})
    write_classes(tmp_path / "photos" / "val", {"a": 5, "c": 5})
    message = r"val: expected the class folders of .*train; missing here: b; only here: c"
    with pytest.raises(DataError, match=message):
        load_source(tmp_path / "photos", seed=0)
    (tmp_path / "photos" / "valid").mkdir()
    with pytest.raises(DataError, match="one folder of validation images, got 'val' and 'valid'"):
        load_source(tmp_path / "photos", seed=0)


def test_test_without_train(tmp_path: Path) -> None:
    write_classes(tmp_path / "photos" / "test", {"a": 5, "b": 5})
    with pytest.raises(DataError, match="photos: expected a folder 'train', got only test"):
        load_source(tmp_path / "photos", seed=0)


def test_too_few_images_to_split(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 5, "b": 2})
    with pytest.raises(DataError, match="class 'b': expected at least 3 images to split, got 2"):
        load_source(folder, seed=0)
    Image.new("L", (4, 4)).save(folder / "b" / "third.png")
    assert [len(rows_of(load_source(folder, seed=0), kind)) for kind in KINDS] == [4, 2, 2]


@pytest.mark.parametrize("damage", ["truncated", "not an image", "NaN", "no target"])
def test_unreadable_image(tmp_path: Path, damage: str) -> None:
    folder = write_classes(tmp_path / "photos" / "train", {"a": 2, "b": 2}).parent
    write_classes(folder / "val", {"a": 2, "b": 2})
    write_classes(folder / "test", {"a": 2, "b": 2})
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    bad = folder / "val" / "b" / "001.png"
    bad.unlink()
    if damage == "truncated":
        Image.fromarray(noise).save(bad)
        bad.write_bytes(bad.read_bytes()[:2000])
    elif damage == "not an image":
        bad.write_text("Not found")
    elif damage == "NaN":
        bad = bad.with_suffix(".tif")
        Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(bad)
    else:
        bad.symlink_to(folder / "gone.png")
    source = load_source(folder, seed=0)
    assert len(source.split("validation", 8)) == 3
    with pytest.raises(
        DataError, match=rf"val/b/{bad.name}: expected an image, got a file that .*--skip-damaged"
    ):
        source.require_undamaged()


def test_file_deleted_after_the_inspection(tmp_path: Path, cache_folder: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 5, "b": 5})
    source = load_source(folder, seed=0)
    for path in folder.glob("b/*"):
        path.unlink()
    with pytest.raises(DataError, match=r"b/00\d.png: expected an image, got a file that cannot"):
        source.split("validation", 8)
    assert not list(cache_folder.glob("validation*.npy"))
    assert not list(cache_folder.glob("*.part"))


# Cache


def test_cache_is_read_not_made_again(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "photos", {"a": 5, "b": 5})
    source = load_source(folder, seed=0)
    first = source.split("train", 6)
    shutil.rmtree(folder)
    assert torch.equal(source.split("train", 6).images, first.images)


def test_a_write_to_the_mapped_images_stays_private() -> None:
    source = load_source("embedded", seed=0)
    before = source.split("test", 3).images.clone()
    source.split("test", 3).images.fill_(7)
    assert torch.equal(source.split("test", 3).images, before)


def test_truncated_cache_is_made_again(cache_folder: Path) -> None:
    source = load_source("embedded", seed=0)
    good = source.split("test", 3).images.clone()
    (path,) = cache_folder.glob("test-3px-*.npy")
    for keep in (0, 60, 1000):
        path.write_bytes(path.read_bytes()[:keep])
        assert torch.equal(source.split("test", 3).images, good)


def test_a_partial_cache_file_is_not_used(cache_folder: Path) -> None:
    rows = np.arange(6, dtype=np.uint8).reshape(2, 3)
    cache.cache_dir()
    (cache_folder / ".x.npy.part").write_bytes(b"junk" * 100)
    (cache_folder / "x.lock").touch()
    assert np.array_equal(cache.cached_array("x", (2, 3), np.uint8, iter(rows)), rows)
    assert not (cache_folder / ".x.npy.part").exists()


def test_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("MBSEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_dir() == tmp_path / "xdg" / "mbsearch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_dir() == tmp_path / "home" / ".cache" / "mbsearch"
    assert cache.cache_dir().is_dir()


def test_cache_folder_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "file" / "below"), "~no such user/cache"):
        monkeypatch.setenv("MBSEARCH_CACHE", path)
        with pytest.raises(
            DataError, match=rf"{path}: cannot write the image cache .*MBSEARCH_CAC"
        ):
            load_source("embedded", seed=0).split("test", 2)


def test_full_disk(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write the image cache \(No space left on device"):
        load_source("embedded", seed=0).split("test", 2)
    assert not [path for path in cache_folder.iterdir() if path.suffix != ".lock"]


def test_cache_that_does_not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "load_array", lambda *_: None)
    with pytest.raises(DataError, match=r"x.npy: .* does not read back"):
        cache.cached_array("x", (1, 2), np.uint8, iter([np.zeros(2, np.uint8)]))


def test_two_processes_make_the_same_cache_at_once() -> None:
    program = """
import time, zlib
import numpy as np
from mbsearch.data.cache import cached_array

def rows():
    print("made", flush=True)
    for i in range(100):
        time.sleep(0.005)  # long enough for the other process to come along
        yield np.full(1000, i, np.uint8)

print("ready", flush=True)
input()
print(zlib.crc32(cached_array("images", (100, 1000), np.uint8, rows()).tobytes()))
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    answers = sorted(worker.communicate(timeout=60)[0] for worker in workers)
    right = zlib.crc32(np.arange(100, dtype=np.uint8).repeat(1000).tobytes())
    assert answers == [f"{right}\n", f"made\n{right}\n"]  # one made it, the other waited


# torchvision


class FakeSet:
    """Stands for a torchvision data set: the same face, no download."""

    classes = ("zero", "one")

    def __init__(self, root: str, *, train: bool, download: bool) -> None:
        assert Path(root).is_dir()
        assert download
        self.targets = torch.tensor([0, 1] * (10 if train else 4))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Image.Image, int]:
        label = int(self.targets[row])
        return Image.new("RGB", (5, 5), (label, row, 200)), label


def use_dataset(monkeypatch: pytest.MonkeyPatch, dataset: Callable[..., Any]) -> None:
    entry = torchvision_sets.TORCHVISION_SETS["mnist"]
    row = torchvision_sets.TorchvisionSet(dataset, entry.parts, entry.labels, entry.flippable)
    monkeypatch.setattr(torchvision_sets, "TORCHVISION_SETS", {"mnist": row})


def test_torchvision_set(monkeypatch: pytest.MonkeyPatch) -> None:
    use_dataset(monkeypatch, FakeSet)
    source = load_source("mnist", seed=0)
    assert source.class_names == ("zero", "one")
    assert not source.flippable
    split = source.split("validation", 4)
    assert torch.equal(split.images[:, 0, 0, 0].long(), split.labels)
    assert [len(source.split(kind, 4)) for kind in KINDS] == [16, 4, 8]


@pytest.mark.parametrize("failure", [URLError("no route\nto host"), IncompleteRead(b"", 9)])
def test_failed_download(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    use_dataset(monkeypatch, fail)
    with pytest.raises(
        DataError, match=r"'mnist': expected a download .*(no route|IncompleteRead)"
    ):
        load_source("mnist", seed=0)


def test_unreadable_torchvision_image(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeSet):
        def __getitem__(self, row: int) -> tuple[Image.Image, int]:
            raise OSError("broken")

    use_dataset(monkeypatch, Broken)
    with pytest.raises(DataError, match="data set mnist: image 0: expected an image"):
        load_source("mnist", seed=0).split("train", 4)


@pytest.mark.parametrize("name", sorted(torchvision_sets.TORCHVISION_SETS))
def test_torchvision_takes_the_arguments_of_the_table(name: str, tmp_path: Path) -> None:
    entry = torchvision_sets.TORCHVISION_SETS[name]
    assert "train" in entry.parts
    for arguments in entry.parts.values():
        with pytest.raises(RuntimeError, match="not found"):  # and not a TypeError or ValueError
            entry.dataset(str(tmp_path), download=False, **arguments)


# Batches


@pytest.mark.parametrize("channels", [1, 3])
def test_plain_batches_are_the_normalised_images_in_order(channels: int) -> None:
    split = random_split(11, channels, 6)
    got = list(batches(split, 4, flip=True, shift=0.5, cutout=0.5))
    assert [len(batch.labels) for batch in got] == [4, 4, 3]
    assert torch.equal(torch.cat([batch.labels for batch in got]), split.labels)
    x = torch.cat([batch.images for batch in got])
    oracle = tv.normalize(split.images.float().expand(-1, 3, -1, -1) / 255, [0.4] * 3, [0.2] * 3)
    torch.testing.assert_close(x, oracle)
    assert all(b.images.is_contiguous(memory_format=torch.channels_last) for b in got)
    assert [len(y) for _, y, _ in batches(split, 4, drop_last=True)] == [4, 4]
    assert list(batches(split, 12, drop_last=True)) == []


def test_grey_images_under_coloured_statistics() -> None:
    split = random_split(2, 1, 4)
    mixed = Split(split.images, split.labels, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), 2)
    x, *_ = next(batches(mixed, 2))
    torch.testing.assert_close(x[:, 0] - x[:, 2], torch.full((2, 4, 4), 0.2))


def augmented(split: Split, seed: int = 0, **how: Any) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    (batch,) = batches(split, len(split), generator=generator, **how)
    return batch.images, batch.labels


def test_augmentation_is_a_function_of_the_generator() -> None:
    split = random_split(64, 3, 10)
    how = {"flip": True, "shift": 0.2, "cutout": 0.4}
    x, y = augmented(split, 1, **how)
    again, same = augmented(split, 1, **how)
    other, _ = augmented(split, 2, **how)
    assert torch.equal(x, again)
    assert torch.equal(y, same)
    assert not torch.equal(x, other)
    assert sorted(y.tolist()) == list(range(64))  # each image once


@pytest.mark.parametrize("channels", [1, 3])
def test_flip_and_shift_are_torchvision_crops_of_the_reflected_image(channels: int) -> None:
    split = random_split(200, channels, 10)
    plain = torch.cat([x for x, *_ in batches(split, 200)])
    x, y = augmented(split, flip=True, shift=0.2)
    seen = set()
    for image, label in zip(x, y, strict=True):
        padded = tv.pad(plain[label], [2], padding_mode="reflect")
        moves = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if torch.equal(
                image,
                (tv.horizontal_flip if mirrored else torch.clone)(
                    tv.crop(padded, top, left, 10, 10)
                ),
            )
        ]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) > 40  # of the 50 possible, each with probability 1/50


def test_flip_alone_mirrors_about_half() -> None:
    split = random_split(400, 1, 4)
    plain = torch.cat([x for x, *_ in batches(split, 400)])
    x, y = augmented(split, flip=True)
    mirrored = (x == plain[y].flip(3)).flatten(1).all(1)
    assert bool((mirrored | (x == plain[y]).flatten(1).all(1)).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("cutout", [0.3, 0.5, 1.0])
def test_cutout_puts_the_mean_into_one_square(cutout: float) -> None:
    split = random_split(100, 3, 10)
    split.images.clamp_(max=90)  # below the mean: no pixel is normalised to zero by chance
    x, _ = augmented(split, cutout=cutout)
    side, areas = round(10 * cutout), []
    for image in x:
        hole = (image == 0).all(0)
        assert torch.equal(hole, (image == 0).any(0))
        height, width = int(hole.any(1).sum()), int(hole.any(0).sum())
        assert int(hole.sum()) == height * width
        assert 0 < height <= side
        assert 0 < width <= side
        areas.append(height * width)
    assert max(areas) == side**2


@pytest.mark.parametrize("side", [1, 2, 3])
def test_tiny_images_can_be_augmented(side: int) -> None:
    x, _ = augmented(random_split(20, 1, side), flip=True, shift=0.5, cutout=0.5)
    assert bool(x.isfinite().all())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("how", [{}, {"flip": True, "shift": 0.3, "cutout": 0.4}])
def test_a_gpu_makes_the_same_batches(
    monkeypatch: pytest.MonkeyPatch, channels: int, how: dict[str, Any]
) -> None:
    """By torch's own operations, here on the CPU."""
    split, generator = random_split(9, channels, 6), torch.Generator()
    (x, y, _), rest = batches(split, 5, generator=generator.manual_seed(1), **how)
    monkeypatch.setenv("MBSEARCH_ACCEL", "0")
    (other, same, _), _ = batches(split, 5, generator=generator.manual_seed(1), **how)
    assert torch.equal(y, same)
    torch.testing.assert_close(other, x)
    assert other.is_contiguous(memory_format=torch.channels_last)
    assert len(rest[1]) == 4
