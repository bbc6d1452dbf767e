from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from mbsearch import cli
from mbsearch.data.cache import cached_array, cached_text


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with an array, a report of images, an unknown file, and compiled kernels."""
    folder, kernels = tmp_path / "cache", tmp_path / "kernels"
    monkeypatch.setenv("MBSEARCH_CACHE", str(folder))
    monkeypatch.setattr("mbsearch.accel.kernel_cache_folder", lambda: kernels)
    cached_array("images", (10, 1000), np.uint8, iter(np.zeros((10, 1000), np.uint8)))
    cached_text(folder / "inspection-1.json", lambda: "[]")
    kernels.mkdir()
    (kernels / "steps.norm-1.nbc").write_bytes(b"0" * 2_000_000)
    (kernels / "steps.cpython-312.pyc").write_bytes(b"bytecode")
    (folder / "notes.txt").write_text("not a cached file")
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["cache", *arguments])
    return int(end.value.code or 0)


def test_the_cache_is_shown_with_sizes(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    shown = capsys.readouterr().out
    assert "2.0 MB" in shown
    assert str(cache) in shown
    assert (cache / "images.npy").exists()


def test_clearing_deletes_cached_files_only(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--clear") == 0
    assert "deleted 2.0 MB of compiled kernels" in capsys.readouterr().err
    assert [path.name for path in cache.iterdir()] == ["notes.txt"]
    kernels = cache.parent / "kernels"
    assert [path.name for path in kernels.iterdir()] == ["steps.cpython-312.pyc"]


def test_the_least_recently_used_arrays_are_deleted_above_a_bound(cache: Path) -> None:
    cached_array("newer", (10, 1000), np.uint8, iter(np.zeros((10, 1000), np.uint8)))
    run("--max-size", "15k")
    assert sorted(path.stem for path in cache.glob("*.npy")) == ["newer"]
    run("--max-size", "0")
    assert not list(cache.glob("*.npy"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-size", "many"), "--max-size: expected a size, as 10G or 500M, got 'many'"),
        (("--max-size", "1G", "--clear"), "expected --clear or --max-size, got both"),
    ],
)
def test_invalid_options_of_the_cache(
    cache: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert not end.value.code
    assert capsys.readouterr().out == f"mbsearch {version('mbsearch')}\n"
