"""Images are decoded as viewers show them; files left out and changes are reported first."""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from mbsearch.data.sources import load_source
from mbsearch.display.progress_display import ProgressDisplay
from mbsearch.progress import Progress

from .command_line import Ran, in_process_of_its_own
from .conftest import SMALL_SPACE

DryRun = Callable[..., Any]
in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (16, 16, 3), np.uint8)


def save(pixels: np.ndarray | Image.Image, path: Path, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **how)
    return path


def write_pets(folder: Path, count: int = 6) -> Path:
    """Cats and dogs of noise, as PNG."""
    for label, name in enumerate(("cat", "dog")):
        for i in range(count):
            save(noise(1000 * label + i), folder / name / f"{i:03}.png")
    return folder


def png_16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits: grey, grey with alpha, RGB or RGBA, which Pillow does not write."""
    height, width = values.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[values[0, 0].size]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def tiff_16(values: np.ndarray, order: str) -> bytes:
    """A TIFF of 16-bit RGB, little ("<") or big (">") endian, which Pillow does not write."""
    height, width, _ = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    start = 8 + 2 + 9 * 12 + 4
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, start),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, start + 6),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, len(pixels)),
    ]
    table = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count)
        + struct.pack(f"{order}{'H2x' if kind == 3 and count == 1 else 'I'}", value)
        for tag, kind, count, value in entries
    )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + table + bytes(4) + struct.pack(f"{order}3H", 16, 16, 16) + pixels


def pixels_of(folder: Path, side: int = 16) -> dict[str, np.ndarray]:
    """All images as they are trained on, (C, side, side), by the names of their files."""
    source = load_source(folder, seed=0)
    source.require_undamaged()
    found = {}
    for kind, members in source.members.items():
        images = source.split(kind, side).images.numpy()
        for row, image in zip(members.rows.tolist(), images, strict=True):
            found[Path(members.pool.where(row)).name] = image
    return found


# 1. Nothing is left out in silence


@pytest.mark.parametrize(
    "extensions",
    [
        ["png"] * 4 + ["gif"] * 12 + ["jfif"] * 12 + ["avif"] * 12,
        ["ico"] * 10 + ["tga"] * 10 + ["jp2"] * 10 + ["pcx"] * 10,
        ["jpe", "dib", "apng", "qoi", "sgi", "dds", "ppm", "PNG", "bmp", "icns"] * 4,
    ],
    ids=["web", "old", "others"],
)
def test_what_pillow_opens_is_used(dry_run: DryRun, tmp_path: Path, extensions: list[str]) -> None:
    for label, name in enumerate(("cat", "dog")):
        for i, extension in enumerate(extensions):
            path = tmp_path / "photos" / name / f"{i}.{extension}"
            kind = {"jp2": "JPEG2000"}.get(extension)
            save(noise(100 * label + i, 32, 32, 3), path, format=kind)
    assert "2 classes of 40 images; 56 train" in dry_run(tmp_path / "photos").passed()


def test_content_decides_not_the_name(dry_run: DryRun, tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos")
    save(noise(1), folder / "cat" / "no extension", format="PNG")
    save(noise(2), folder / "cat" / "photo.jpg_large", format="JPEG")
    save(noise(3), folder / "dog" / "photo.dat", format="WEBP")
    save(noise(4), folder / "dog" / "photo.png", format="GIF")
    assert "2 classes of 8 images" in dry_run(folder).passed()


def test_what_is_left_out_is_counted_by_class_and_reason(dry_run: DryRun, tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos")
    (folder / "cat" / "README.txt").write_text("These are cats.\n")
    (folder / "cat" / "boxes.json").write_text("{}")
    save(noise(1), folder / "cat" / ".hidden.png")
    (folder / "dog" / "clip.mpg").write_bytes(b"\0\0\1\xba" + bytes(100))
    (folder / "dog" / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    save(noise(2), folder / "beside.png")
    text = dry_run(folder).passed()
    assert "left out of cat: 3 files (not an image: 2, hidden: 1)" in text
    assert "left out of dog: 2 files (EPS, which Pillow does not decode: 1, MPEG, which" in text
    assert "left out of photos: 1 file (beside the class folders: 1)" in text


def test_the_first_frame_of_an_animation_is_used(dry_run: DryRun, tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos")
    for extension in ("gif", "webp", "png", "tif"):
        frames = [Image.fromarray(noise(seed)) for seed in range(3)]
        path = folder / "cat" / f"moving.{extension}"
        save(frames[0], path, save_all=True, append_images=frames[1:])
    text = dry_run(folder).passed()
    assert "6 to 10 images" in text
    assert "first frame or page only: 4 files of several" in text


# 2. Transparency is shown on white


def icon(mode: str) -> Image.Image:
    """A black square, which stands in the alpha channel alone, on transparent ground."""
    alpha = Image.new("L", (16, 16))
    alpha.paste(255, (4, 4, 12, 12))
    if mode == "P":
        image = alpha.point(lambda value: int(value > 0)).convert("P")
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.info["transparency"] = 0
        return image
    image = Image.new("RGB", (16, 16)).convert("L" if mode == "LA" else "RGB")
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize(
    ("mode", "extension"),
    [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("RGBA", "webp")],
)
def test_a_shape_in_the_alpha_channel_is_seen(
    dry_run: DryRun, tmp_path: Path, mode: str, extension: str
) -> None:
    folder = write_pets(tmp_path / "photos")
    path = save(icon(mode), folder / "cat" / f"icon.{extension}", lossless=True)
    assert "transparent pixels shown on white: 1 image" in dry_run(folder).passed()
    if "MBSEARCH" not in os.environ:
        pixels = pixels_of(folder)[path.name]
        assert (pixels[:, 4:12, 4:12] == 0).all()
        assert (pixels[:, 0] == 255).all()
        assert pixels.sum() == (256 - 64) * 255 * len(pixels)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_pictures_of_one_colour_are_warned_about(
    dry_run: DryRun, tmp_path: Path, count: int
) -> None:
    folder = write_pets(tmp_path / "photos")
    for i in range(count):
        kind = ("png", "jpg", "gif")[i % 3]
        colour = ((20 * i, 0, 9), 10 * i, 10 * i)[i % 3]
        image = Image.new("RGB" if i % 3 == 0 else "L", (40, 40), colour)
        save(image, folder / "dog" / f"flat{i}.{kind}")
    text = dry_run(folder).passed()
    noun = "image" if count == 1 else "images"
    assert f"warning: {count} {noun} of {12 + count} of one colour only: dog/flat0.png" in text


# 3. Depth: one range for the data set


def ramp(top: float, *, dark: bool = False) -> np.ndarray:
    """A gradient of 256 values from 0 to `top`; only its lower half if `dark`."""
    return np.linspace(0, top / 2 if dark else top, 256).reshape(16, 16)


DEEP = {
    "12 bits in 16": ("png", 4095, np.uint16, "16-bit pixel values from 0 to 4,095"),
    "16 bits": ("png", 65535, np.uint16, "16-bit pixel values from 0 to 65,535"),
    "20 bits in 32": ("tif", 1 << 20, np.int32, "32-bit pixel values from 0 to 1,048,576"),
    "floats to 1": ("tif", 1.0, np.float32, "floating-point pixel values from 0 to 1"),
    "floats to 255": ("tif", 255.0, np.float32, "floating-point pixel values from 0 to 255"),
}


@pytest.mark.parametrize("case", DEEP)
def test_deep_images_are_scaled_by_the_range_of_the_data_set(
    dry_run: DryRun, tmp_path: Path, case: str
) -> None:
    extension, top, kind, words = DEEP[case]
    folder = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        for i in range(4):
            values = np.roll(ramp(top, dark=i == 3), 2 * i + label, axis=0)
            save(
                values.round().astype(kind) if top > 1 else values.astype(kind),
                folder / name / f"{name}{i}.{extension}",
            )
    assert words in dry_run(folder).passed()
    if "MBSEARCH" not in os.environ:
        found = pixels_of(folder)
        expected = ramp(255)
        assert np.abs(found[f"cat0.{extension}"][0] - expected).max() <= 1
        darker = np.roll(ramp(255, dark=True), 6, axis=0)
        assert np.abs(found[f"cat3.{extension}"][0] - darker).max() <= 1


@pytest.mark.parametrize("kind", ["png", "png with alpha", "tiff <", "tiff >"])
def test_colours_of_12_bits_in_16_keep_their_levels(
    dry_run: DryRun, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "photos"
    for label, name in enumerate(("cat", "dog")):
        for i in range(4):
            grey = np.roll(ramp(4095), 2 * i + label, axis=0).round().astype(np.uint16)
            values = np.dstack([grey, grey.T, grey[::-1]])
            if kind == "png with alpha":
                values = np.dstack([values, np.full_like(grey, 65535)])
            data = tiff_16(values, kind[-1]) if kind.startswith("tiff") else png_16(values)
            path = folder / name / f"{name}{i}.{kind[:3]}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    assert "16-bit pixel values from 0 to 4,095" in dry_run(folder).passed()
    if "MBSEARCH" not in os.environ:
        found = pixels_of(folder)[f"cat0.{kind[:3]}"].astype(int)
        expected = ramp(255)
        oracle = np.stack([expected, expected.T, expected[::-1]])
        assert np.abs(found - oracle).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(
    dry_run: DryRun, tmp_path: Path, value: float
) -> None:
    folder = write_pets(tmp_path / "photos")
    values = ramp(1).astype(np.float32)
    values[3, 3] = value
    save(values, folder / "cat" / "bad.tif")
    error = dry_run(folder).refused()
    assert "cat/bad.tif: expected an image" in error
    assert "NaN or infinity" in error


Image.init()
# Of the formats that Pillow writes and decodes those that keep every pixel. IM is deprecated.
LOSSY = {"JPEG", "AVIF", "MPO", "EPS", "WMF", "GRIB", "BUFR", "HDF5", "IM"}
SAVED = sorted(set(Image.SAVE) & set(Image.OPEN) - LOSSY)
MODES: dict[str, Sequence[float]] = {
    "1": (1,),
    "L": (255,),
    "LA": (255,),
    "P": (255,),
    "PA": (255,),
    "RGB": (255,),
    "RGBA": (255,),
    "CMYK": (255,),
    "I;16": (4095, 65535, 700),
    "I;16B": (4095, 65535),
    "I": (255, 4095, 65535, 1 << 20),
    "F": (1, 255, 0.01, 1e6),
}

DEEP_MODES = ("I;16", "I;16B", "I", "F")


def gradient(mode: str, top: float) -> tuple[Image.Image, np.ndarray]:
    """An image of a mode with values from 0 to `top`, and its 8-bit pixels, (H, W)."""
    shown = np.arange(256, dtype=np.uint8).reshape(16, 16)
    if mode == "1":
        shown = np.where(shown > 99, 255, 0).astype(np.uint8)
        return Image.fromarray(shown).convert("1"), shown
    if mode.startswith("I;16"):
        values = (shown * (top / 255)).round().astype(f"{'>' if mode == 'I;16B' else '<'}u2")
        return Image.fromarray(values), shown
    if mode == "I":
        return Image.fromarray((shown * (top / 255)).round().astype(np.int32)), shown
    if mode == "F":
        return Image.fromarray((shown * (top / 255)).astype(np.float32)), shown
    grey = Image.fromarray(shown)
    if mode in ("RGBA", "CMYK"):
        return grey.convert("RGB").convert(mode), shown
    if mode == "PA":
        paletted = grey.convert("P")
        return Image.merge("PA", (paletted, Image.new("L", (16, 16), 255))), shown
    return grey.convert(mode), shown


def same_image_eight_times(
    folder: Path, image: Image.Image, shown: np.ndarray, kind: str
) -> dict[str, np.ndarray]:
    """The image in eight positions, four a class, saved by one format; the pixels of each."""
    extension = next(
        (e for e, name in sorted(Image.registered_extensions().items()) if name == kind), ".spi"
    )
    expected = {}
    for i in range(8):
        turned, oracle = image, shown
        if i >= 4:
            turned = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            oracle = oracle[:, ::-1]
        for _ in range(i % 4):
            turned, oracle = turned.transpose(Image.Transpose.ROTATE_90), np.rot90(oracle)
        path = folder / f"class {i % 2}" / f"{i}{extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            turned.save(path, format=kind, lossless=True)
        except (OSError, ValueError, KeyError, TypeError, SystemError):
            assume(False)  # a mode that the format does not have
        expected[path.name] = oracle
    return expected


@in_process
@settings(
    deadline=None, max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(
    case=st.sampled_from([(mode, top) for mode, tops in MODES.items() for top in tops]),
    kind=st.sampled_from(SAVED),
)
def test_a_gradient_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, float], kind: str
) -> None:
    """Of whatever mode, depth and format Pillow writes and opens, to within one level."""
    folder = tmp_path_factory.mktemp("gradient")
    image, shown = gradient(*case)
    expected = same_image_eight_times(folder, image, shown, kind)
    with Image.open(next(folder.glob("*/0.*"))) as stored:
        assume(stored.size == (16, 16))  # ICNS writes sizes of its own
        if case[0] not in ("1", "L") and stored.mode == "1":
            assume(False)  # the format has kept two levels
        if kind == "GIF" and case[0] == "RGBA":
            assume(False)  # it keeps 255 colours beside the transparent one
        if case[0] in DEEP_MODES:  # else the format has kept fewer bits
            assume(np.array_equal(np.asarray(stored), np.asarray(image)))
    for name, pixels in pixels_of(folder).items():
        wrong = np.abs(pixels.astype(int) - expected[name]).max()
        assert wrong <= 1, (case, kind, name, wrong)


# 4. A file counts once, in one class and one split


def outside(tmp_path: Path, count: int = 3) -> Path:
    for i in range(count):
        save(noise(5000 + i), tmp_path / "elsewhere" / f"{i}.png")
    return tmp_path / "elsewhere"


@pytest.mark.parametrize("link", ["parent", "sibling", "itself", "class", "file", "loop outside"])
def test_links_into_other_classes_and_loops_are_named(
    dry_run: DryRun, tmp_path: Path, link: str
) -> None:
    folder = write_pets(tmp_path / "photos")
    place = folder / "cat" / "up"
    if link == "parent":
        place.symlink_to("..")
    elif link == "sibling":
        place.symlink_to(folder / "dog")
    elif link == "itself":
        place.symlink_to(folder / "cat")
    elif link == "class":
        place = folder / "fox"
        place.symlink_to("dog")
    elif link == "file":
        place = folder / "cat" / "dog.png"
        place.symlink_to(folder / "dog" / "000.png")
    else:
        place.symlink_to(outside(tmp_path))
        (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    error = dry_run(folder).refused()
    assert f"{place}" in error
    assert "got a link" in error


def test_a_split_that_is_a_link_to_another_is_named(dry_run: DryRun, tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos" / "train").parent
    (folder / "val").symlink_to("train")
    assert (
        "photos/val/cat: expected a class folder of its own, got a link"
        in dry_run(folder).refused()
    )


def test_links_that_share_no_class_are_followed_and_count_once(
    dry_run: DryRun, tmp_path: Path
) -> None:
    folder = write_pets(tmp_path / "photos")
    (folder / "cat" / "more").symlink_to(outside(tmp_path))
    (folder / "cat" / "more again").symlink_to(tmp_path / "elsewhere")
    (folder / "cat" / "alias.png").symlink_to("000.png")
    (folder / "dog" / "hard.png").hardlink_to(folder / "dog" / "000.png")
    text = dry_run(folder).passed()
    assert "2 classes of 6 to 9 images" in text
    assert "links to files that are listed already, counted once: 5" in text


@pytest.mark.parametrize("how", ["copy", "hard link", "other name and time"])
def test_equal_contents_in_two_classes_are_named(dry_run: DryRun, tmp_path: Path, how: str) -> None:
    folder = write_pets(tmp_path / "photos")
    cat, dog = folder / "cat" / "003.png", folder / "dog" / "003.png"
    dog.unlink()
    if how == "hard link":
        dog.hardlink_to(cat)
    elif how == "copy":
        dog.write_bytes(cat.read_bytes())
    else:
        dog = folder / "dog" / "deeper" / "other.jpg"
        dog.parent.mkdir()
        dog.write_bytes(cat.read_bytes())
        os.utime(dog, ns=(1, 1))
    error = dry_run(folder).refused()
    assert str(cat) in error
    assert str(dog) in error


def test_copies_within_a_class_are_counted_and_stay_in_one_split(
    dry_run: DryRun, tmp_path: Path
) -> None:
    folder = write_pets(tmp_path / "photos", 12)
    for name in ("cat", "dog"):
        for i in range(12):
            data = (folder / name / f"{i:03}.png").read_bytes()
            for copy in range(i % 3):
                (folder / name / f"{i:03} ({copy}).png").write_bytes(data)
    text = dry_run(folder).passed()
    assert "equal training images, kept in the same split: 24 copies" in text
    if "MBSEARCH" not in os.environ:
        source = load_source(folder, seed=0)
        splits = [
            {
                Path(members.pool.where(row)).name[:3] + str(members.pool.labels[row])
                for row in members.rows
            }
            for members in source.members.values()
        ]
        assert sum(map(len, splits)) == 24
        assert sum(len(members.rows) for members in source.members.values()) == 48


def test_a_training_image_that_is_in_the_test_too_is_left_out(
    dry_run: DryRun, tmp_path: Path
) -> None:
    folder = write_pets(tmp_path / "photos" / "train", 9).parent
    for i, part in enumerate(("val", "test")):
        for label, name in enumerate(("cat", "dog")):
            save(noise(7000 + 10 * i + label), folder / part / name / "own.png")
            copy = folder / part / name / "copy.png"
            copy.write_bytes((folder / "train" / name / f"00{i}.png").read_bytes())
    text = dry_run(folder).passed()
    assert "14 train, 4 validation, 4 test" in text
    assert "left out: 4 images of which a later split" in text


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "thumbnails"),
        (".thumbnails/a.png", "thumbnails"),
        ("__MACOSX/a.png", "files of the operating system"),
        ("._a.png", "files of the operating system"),
        ("Thumbs.db", "thumbnails"),
        (".cache/a.png", "hidden"),
    ],
)
def test_what_systems_leave_in_folders_is_counted(
    dry_run: DryRun, tmp_path: Path, name: str, reason: str
) -> None:
    folder = write_pets(tmp_path / "photos")
    for place in ("cat", "."):  # beside the classes it is no class either
        save(noise(1), folder / place / name, format="PNG")
    text = dry_run(folder).passed()
    assert "2 classes of 6 images" in text
    assert f"left out of cat: 1 file ({reason}: 1)" in text
    assert f"left out of photos: 1 file ({reason}: 1)" in text


# 5. Damaged files


def damage(folder: Path, count: int) -> list[Path]:
    """Damage some of the dogs, each in another way."""
    paths = sorted((folder).glob("**/dog/*.png"))[:count]
    for i, path in enumerate(paths):
        data = path.read_bytes()
        path.write_bytes((data[: len(data) // 2], b"", b"<html>Not found</html>", data[:50])[i % 4])
    return paths


@pytest.mark.parametrize("layout", ["classes", "train", "test"])
def test_all_damaged_files_are_named_together(dry_run: DryRun, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "photos"
    if layout == "classes":
        write_pets(folder, 30)
    else:
        write_pets(folder / layout, 30)
        for label, name in enumerate(("cat", "dog")):
            for i in range(5):
                other = "test" if layout == "train" else "train"
                save(noise(9000 + 10 * label + i), folder / other / name / f"{i}.png")
    damaged = damage(folder / layout if layout != "classes" else folder, 4)
    error = dry_run(folder).refused()
    assert "4 files that cannot be read" in error
    assert all(str(path) in error for path in damaged)
    assert "--skip-damaged" in error
    assert not (tmp_path / "results").exists()


def test_many_damaged_files_are_listed_in_a_file(dry_run: DryRun, tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos", 20)
    damaged = damage(folder, 14)
    error = dry_run(folder).refused()
    assert sum(str(path) in error for path in damaged) == 10
    assert "and 4 more" in error
    listed = Path(error.split("4 more; ")[1].split(" lists all")[0]).read_text()
    assert all(f"{path}\t" in listed for path in damaged)


def test_skip_damaged_goes_on_without_them(dry_run: DryRun, tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos", 12)
    damaged = damage(folder, 4)
    text = dry_run(folder, "--skip-damaged").passed()
    assert "2 classes of 8 to 12 images" in text
    assert f"left out: {folder}: expected images, got 4 files that cannot be read" in text
    assert all(str(path) in text for path in damaged)


@pytest.mark.slow
def test_a_study_records_what_it_skipped(mbsearch: DryRun, dry_run: DryRun, tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos", 12)
    damaged = damage(folder, 4)
    arguments = ("run", "--data", folder, "--space", tmp_path / "small.yaml", "--weights", "none")
    few = ("--trials", "1", "--jobs", "1", "--finals", "0", "--no-export", "--skip-damaged")
    mbsearch(*arguments, *few).passed()
    lines = (tmp_path / "results" / "small" / "skipped_images.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(path) for path in damaged]


@in_process
def test_a_second_check_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pets(tmp_path / "photos")
    first = load_source(folder, seed=0)
    monkeypatch.setattr(Image, "open", None)
    assert load_source(folder, seed=0).content_key == first.content_key


@in_process
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    folder = write_pets(tmp_path / "photos")
    place = folder / "cat" / "p.jpg"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        os.mknod(place, stat.S_IFSOCK | 0o600)
    else:
        place.mkdir()
    notes = load_source(folder, seed=0).notes
    expected = () if kind == "folder" else ("left out of cat: 1 file (not a regular file: 1)",)
    assert notes == expected


# 6. Large images


@pytest.mark.parametrize("kind", ["scan", "photo", "drawing"])
def test_large_images_are_read_and_said_to_be_slow(
    dry_run: DryRun, tmp_path: Path, kind: str
) -> None:
    folder = write_pets(tmp_path / "photos")
    size = {"scan": (14_000, 14_000), "photo": (9_600, 9_600), "drawing": (20_000, 10_000)}[kind]
    image = Image.new("1" if kind != "photo" else "L", size, 255)
    image.paste(0, (0, 0, size[0] // 2, size[1]))
    extension = {"scan": "tif", "photo": "jpg", "drawing": "png"}[kind]
    how = {"compression": "group4"} if kind == "scan" else {}
    path = save(image, folder / "cat" / f"large.{extension}", **how)
    text = dry_run(folder).passed()
    assert (
        f"slow to read: 1 image of more than 50 megapixels; the largest ({path.relative_to(folder)}"
        in text
    )
    assert "at most 2 GiB" in text
    if "MBSEARCH" not in os.environ:
        row = pixels_of(folder, 8)[path.name][0, 4]
        assert (row[:3].max(), row[5:].min()) == (0, 255)


# 7. Progress


@in_process
def test_reading_reports_every_image(tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "photos", 20)
    seen: list[Progress] = []
    source = load_source(folder, seed=0, on_progress=seen.append)
    assert seen[-1] == Progress("checking images", 40, 40)
    source.statistics(seen.append)
    assert seen[-1] == Progress("measuring images", 28, 28)
    source.prepare("train", [16, 24, 32], None, seen.append)
    assert seen[-1] == Progress("preparing train images", 28, 28)
    before = len(seen)
    source.prepare("train", [16, 24, 32], None, seen.append)
    assert len(seen) == before, "all is in the cache"


# For some seconds, a picture takes as long to read as a large photo.
_SLOW = """\
import os, time
from PIL import Image
opened = Image.open
def open_slowly(*arguments, **options):
    if time.time() < os.stat(__file__).st_mtime + 12:
        time.sleep(0.4)
    return opened(*arguments, **options)
Image.open = open_slowly
"""


@pytest.mark.slow
def test_a_search_says_how_far_the_pictures_are_read(tmp_path: Path) -> None:
    options = ["--space", "small.yaml", "--data", "photos", "--trials", "1", "--jobs", "1"]
    options += [] if "MBSEARCH" in os.environ else ["--weights", "none", "--dry-run"]

    def searched(extension: str) -> Ran:
        folder = tmp_path / extension
        for i in range(60):
            save(noise(i, 40, 40, 3), folder / "photos" / "ab"[i % 2] / f"{i}.{extension}")
        (folder / "small.yaml").write_text(SMALL_SPACE)
        (folder / "sitecustomize.py").write_text(_SLOW)
        return in_process_of_its_own(folder, "run", *options, PYTHONPATH=os.fspath(folder))

    with ThreadPoolExecutor() as threads:
        for ran in threads.map(searched, ("png", "jpg", "bmp")):
            assert re.search(r"images: \d+ of \d+", ran.passed())


@in_process
@pytest.mark.parametrize("seconds", [1, 4, 20])
def test_without_a_terminal_there_is_a_line_every_five_seconds(
    monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    now = 0.0
    monkeypatch.setattr("mbsearch.progress.time.monotonic", lambda: now)
    console = Console(file=StringIO(), force_terminal=False)
    display = ProgressDisplay(console)
    for done in range(seconds * 10):
        now = (done + 1) / 10
        display.update(Progress("checking images", done + 1, seconds * 10))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == seconds // 5
    assert all(line.startswith("checking images: ") for line in lines)


@in_process
@pytest.mark.parametrize("extension", ["png", "jpg", "gif"])
def test_one_decoding_for_all_sizes_gives_the_pixels_of_each(
    tmp_path: Path, cache_folder: Path, extension: str
) -> None:
    folder = tmp_path / "photos"
    for i in range(8):
        save(noise(i, 150, 200, 3), folder / "ab"[i % 2] / f"{i}.{extension}")
    source = load_source(folder, seed=0)
    source.prepare("train", [8, 20, 64, 90])
    together = [source.split("train", side).images.clone() for side in (8, 20, 64, 90)]
    for path in cache_folder.glob("train-*"):
        path.unlink()
    for side, images in zip((8, 20, 64, 90), together, strict=True):
        assert (source.split("train", side).images == images).all()
