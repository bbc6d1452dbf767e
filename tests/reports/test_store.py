"""A study is opened after all of it is verified; nothing is lost in writing results."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from PIL import Image

from mbsearch.study.journal import open_journal
from reports.command_line import Ran, call, in_process_of_its_own, search, write_table
from reports.conftest import SMALL_SPACE

Lines = list[bytes]
EARLIER = Path(__file__).parents[1] / "studies" / "made_by_88dd171"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study results/tiny of five trials."""
    folder = tmp_path_factory.mktemp("made")
    search(folder).passed()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made / "results", tmp_path / "results")
    return tmp_path


def journal(folder: Path) -> Path:
    return folder / "results" / "tiny" / "journal.log"


def lines_of(folder: Path) -> Lines:
    return journal(folder).read_bytes().splitlines(keepends=True)


def trials_in(folder: Path, study: str = "results/tiny") -> int:
    call(folder, "report", study, "-o", "report.html").passed()
    storage = optuna.storages.JournalStorage(
        JournalFileBackend(str(folder / study / "journal.log"))
    )
    return sum(
        trial.state.is_finished() and "record" in trial.user_attrs
        for trial in optuna.load_study(study_name="tiny", storage=storage).trials
    )


# 27. A journal is whose it says, and whole


def changed_accuracy(lines: Lines) -> Lines:
    """Another digit in an evaluation, which is valid JSON."""
    at = max(i for i, line in enumerate(lines) if b'"evaluation"' in line)
    return [*lines[:at], lines[at].replace(b"0.5", b"0.9"), *lines[at + 1 :]]


DAMAGE: dict[str, tuple[Callable[[Lines], Lines], int]] = {
    "ten lines missing": (lambda lines: lines[:15] + lines[25:], 16),
    "one line missing": (lambda lines: lines[:-4] + lines[-3:], -3),
    "first line missing": (lambda lines: lines[1:], 1),
    "two lines exchanged": (lambda lines: [*lines[:20], lines[21], lines[20], *lines[22:]], 21),
    "a line twice": (lambda lines: [*lines[:30], lines[29], *lines[30:]], 31),
    "a digit changed": (changed_accuracy, -1),
    "zeros": (lambda lines: [*lines[:12], bytes(len(lines[12]) - 1) + b"\n", *lines[13:]], 13),
    "two lines joined": (lambda lines: [*lines[:20], lines[20][:-1], *lines[21:]], 21),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_journal_is_named_by_every_command_and_not_written_to(
    folder: Path, case: str
) -> None:
    damage, line = DAMAGE[case]
    lines = lines_of(folder)
    broken = damage(lines)
    journal(folder).write_bytes(b"".join(broken))
    for ran in (search(folder, trials=7), call(folder, "status", "results/tiny")):
        message = ran.refused()
        assert "results/tiny/journal.log:" in message
        assert "the study is damaged" in message
        if line > 0:
            assert f"journal.log:{line}: " in message
        assert "before it are whole, and `mbsearch status results/tiny --repair`" in message
    assert journal(folder).read_bytes() == b"".join(broken)


def test_repair_copies_the_whole_trials_to_a_study_that_resumes(folder: Path) -> None:
    lines = lines_of(folder)
    ends = [i for i, line in enumerate(lines) if b'"op_code":6' in line]
    cut = ends[-3] + 1  # the lines of the last two trials come after it
    broken = b"".join(lines[: cut + 1] + lines[cut + 2 :])
    journal(folder).write_bytes(broken)
    (folder / "results/tiny/latency.json").write_text('{"networks": []}')
    message = call(folder, "status", "results/tiny").refused()
    assert f"journal.log:{cut + 2}: " in message
    assert "; 3 trials before it are whole" in message
    text = call(folder, "status", "results/tiny", "--repair").passed()
    assert "what is whole of results/tiny is copied to results/tiny-repaired" in text
    assert "3 complete" in text
    assert journal(folder).read_bytes() == broken
    assert (folder / "results/tiny-repaired/latency.json").exists()
    assert "expected no such folder" in call(folder, "status", "results/tiny", "--repair").refused()
    search(folder, "--name", "tiny-repaired").passed()
    assert trials_in(folder, "results/tiny-repaired") == 5


def test_repair_of_a_whole_study_is_refused(folder: Path) -> None:
    message = call(folder, "status", "results/tiny", "--repair").refused()
    assert "results/tiny: expected a damaged study with --repair, got a whole one" in message


def optuna_journal(path: Path) -> None:
    """A study of another program."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name="theirs")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "notes": (lambda path: path.write_text("my notes\nof June\n"), "another file"),
    "no line feed": (lambda path: path.write_text("one precious line"), "another file"),
    "JSON": (lambda path: path.write_text('{"a": 1}'), "another file"),
    "JSON in lines": (lambda path: path.write_text('[1, 2]\n{"a": 1}\n'), "another file"),
    "zeros": (lambda path: path.write_bytes(bytes(1000)), "another file"),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 9), "another file"),
    "Optuna": (optuna_journal, "an Optuna journal of another program"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_file_of_another_program_is_named_and_not_written_to(tmp_path: Path, case: str) -> None:
    write, got = FOREIGN[case]
    path = journal(tmp_path)
    path.parent.mkdir(parents=True)
    write(path)
    before = path.read_bytes()
    for ran in (search(tmp_path, trials=1), call(tmp_path, "status", "results/tiny")):
        message = ran.refused()
        assert "results/tiny/journal.log: expected the journal of a study of mbsearch" in message
        assert f"got {got}" in message
    assert path.read_bytes() == before


@pytest.mark.parametrize("tail", [b"my notes", b"{}", b'{"op_code":4,"wor', bytes(40)])
def test_an_incomplete_last_line_of_another_program_is_kept(folder: Path, tail: bytes) -> None:
    with journal(folder).open("ab") as file:
        file.write(tail)
    before = journal(folder).read_bytes()
    message = search(folder, trials=7).refused()
    assert f"journal.log:{len(before.splitlines())}: the study is damaged" in message
    assert journal(folder).read_bytes() == before


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_an_incomplete_last_line_of_ours_is_trimmed(folder: Path, share: float) -> None:
    last = lines_of(folder)[-1]
    content = journal(folder).read_bytes()
    journal(folder).write_bytes(content[: -len(last) + int(share * len(last))])
    search(folder, trials=6).passed()
    assert trials_in(folder) == 6


@pytest.mark.parametrize("content", [b"", b'{"mbsearch":0,"op_code":0,"worker'])
def test_an_empty_journal_is_named_and_a_run_begins_in_it(tmp_path: Path, content: bytes) -> None:
    path = journal(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for command in (["status"], ["report"], ["export"], ["status", "results"]):
        words = command if len(command) > 1 else [*command, "results/tiny"]
        message = call(tmp_path, *words).refused()
        assert "results/tiny/journal.log: expected a study, got an empty journal" in message
    search(tmp_path, trials=2).passed()
    assert trials_in(tmp_path) == 2


def test_optuna_reads_our_journals(folder: Path) -> None:
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal(folder))))
    assert {study.study_name for study in storage.get_all_studies()} == {"tiny", "tiny.baselines"}
    trials = optuna.load_study(study_name="tiny", storage=storage).trials
    assert sum("record" in trial.user_attrs for trial in trials) == 5
    assert all(trial.values[0] >= 0.5 for trial in trials if trial.values)


def test_an_earlier_journal_is_continued_and_then_verified(tmp_path: Path) -> None:
    path = tmp_path / "study" / "journal.log"
    shutil.copytree(EARLIER, path.parent)
    storage = open_journal(path, create=True)
    study = optuna.load_study(study_name="tiny", storage=storage)
    study.set_user_attr("note", "continued")
    call(tmp_path, "status", "study").passed()
    lines = path.read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1])["mbsearch"] == len(lines) - 1 == 101
    rng = random.Random(0)
    for at in rng.sample(range(2, 101), 3):
        path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
        assert "the study is damaged" in call(tmp_path, "status", "study").refused()


def test_an_earlier_journal_without_its_first_lines_is_damaged(tmp_path: Path) -> None:
    for missing in (1, 2, 5):
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        shutil.copytree(EARLIER, tmp_path / "results" / "tiny")
        lines = lines_of(tmp_path)[missing:]
        journal(tmp_path).write_bytes(b"".join(lines))
        message = search(tmp_path, trials=7).refused()
        assert "journal.log:1: the study is damaged: the lines before it are missing" in message
        assert journal(tmp_path).read_bytes() == b"".join(lines)


def test_an_append_reads_only_what_is_new(folder: Path) -> None:
    """The time of a write must not grow with the journal."""
    storage = open_journal(journal(folder), create=True)
    other = open_journal(journal(folder), create=True)
    study, theirs = (optuna.load_study(study_name="tiny", storage=s) for s in (storage, other))
    read = 0
    backend: Any = storage._backend
    whole = backend._lines

    def counted(position: object) -> Iterator[Any]:
        nonlocal read
        for each in whole(position):
            read += 1
            yield each

    backend._lines = counted
    for i in range(20):
        study.set_user_attr("ours", i)
        theirs.set_user_attr("theirs", i)
    assert read <= 80  # each of the 40 lines by the reader, and by the next writer
    assert other.get_study_user_attrs(0) == storage.get_study_user_attrs(0)
    call(folder, "status", "results/tiny").passed()


def test_several_processes_append_to_one_journal(folder: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        list(pool.map(_note, [journal(folder)] * 3, range(3)))
    call(folder, "status", "results/tiny").passed()
    storage = open_journal(journal(folder), create=True)
    attributes = optuna.load_study(study_name="tiny", storage=storage).user_attrs
    assert [attributes[f"note {i}"] for i in range(3)] == [19] * 3


# 28. Locks and results do not follow links


@pytest.mark.parametrize("lock", ["driver.lock", "journal.log.lock"])
def test_a_lock_that_is_a_link_is_refused(tmp_path: Path, lock: str) -> None:
    precious, missing = tmp_path / "precious", tmp_path / "missing"
    precious.write_text("1234567890" * 10)
    for target in (precious, missing):
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        journal(tmp_path).parent.mkdir(parents=True)
        (journal(tmp_path).parent / lock).symlink_to(target)
        message = search(tmp_path, trials=1).refused()
        assert f"results/tiny/{lock}: expected a file, got a link" in message
    assert precious.read_text() == "1234567890" * 10
    assert not missing.exists()


@pytest.mark.parametrize("name", ["best.yaml", "trials.csv", "front.html", "space.yaml"])
def test_a_result_that_is_a_link_is_replaced(folder: Path, name: str) -> None:
    precious = folder / "precious"
    precious.write_text("precious")
    result = folder / "results" / "tiny" / name
    result.unlink()
    result.symlink_to(precious)
    search(folder).passed()
    assert precious.read_text() == "precious"
    assert not result.is_symlink()


def test_a_journal_that_links_to_no_file_is_refused(tmp_path: Path) -> None:
    journal(tmp_path).parent.mkdir(parents=True)
    journal(tmp_path).symlink_to(tmp_path / "missing")
    assert "expected a file, got a link" in search(tmp_path, trials=1).refused()
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002])
def test_files_have_the_permissions_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        search(tmp_path, trials=1).passed()
        call(tmp_path, "report", "results/tiny", "-o", "report.html").passed()
    finally:
        os.umask(before)
    made = [*(tmp_path / "results" / "tiny").iterdir(), tmp_path / "report.html"]
    assert len(made) >= 8
    for path in made:
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask, path.name


# 18, 29. No result is lost for another's sake


@pytest.mark.parametrize("name", ["front.html", "trials.csv", "best.yaml"])
def test_a_result_that_cannot_be_written_leaves_the_others_and_the_table(
    folder: Path, name: str
) -> None:
    home = folder / "results" / "tiny"
    for result in ("front.html", "trials.csv", "best.yaml", "front.csv"):
        (home / result).unlink()
    (home / name).mkdir()  # a file does not replace a folder, not even root's
    ran = search(folder, trials=6)
    assert f"results/tiny/{name}: cannot be written: " in ran.refused()
    assert "Pareto front" in ran.text
    for result in {"front.html", "trials.csv", "best.yaml", "front.csv"} - {name}:
        assert (home / result).is_file(), result
    assert not list(home.glob(".*"))
    assert trials_in(folder) == 6


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let writes fail beyond a size of a file, as on a full disk, also for root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_latency_table_that_cannot_be_written_is_printed(
    folder: Path, option: tuple[str, ...]
) -> None:
    words = ("latency", "results/tiny", "--engine", "torch", "--runs", "10")
    with files_of_at_most(0):
        ran = call(folder, *words, *option)
    assert "results/tiny/latency.json: cannot be written" in ran.refused()
    assert ("median" if option else "One image, 1 thread") in ran.text
    assert not list((folder / "results" / "tiny").glob(".*"))


@pytest.mark.parametrize("size", [8_000, 30_000, 60_000])
def test_a_full_disk_in_mid_study_is_named_with_the_journal(tmp_path: Path, size: int) -> None:
    write_table(tmp_path)
    with files_of_at_most(size):
        ran = search(tmp_path, trials=40)
    assert "results/tiny/journal.log: cannot be written: File too large" in ran.refused()
    assert journal(tmp_path).read_bytes()[-1:] == b"\n"
    if size > 20_000:
        assert (tmp_path / "results/tiny/best.yaml").is_file()
        assert (tmp_path / "results/tiny/trials.csv").is_file()
    assert not list((tmp_path / "results" / "tiny").glob(".*"))
    before = 0 if size < 20_000 else trials_in(tmp_path)
    search(tmp_path, trials=before + 2).passed()
    assert trials_in(tmp_path) == before + 2


def write_photos(folder: Path, classes: list[str]) -> None:
    """Twelve images of noise a class."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(12):
            image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8))
            image.save(folder / name / f"{i} {name}.png")


NAMES = {"Latin-1": b"m\xe4rz", "Shift-JIS": b"\x93\xfa\x96{", "cut UTF-8": b"caf\xc3"}


@pytest.mark.parametrize("encoding", NAMES)
def test_a_folder_whose_name_is_not_utf_8_holds_a_study(folder: Path, encoding: str) -> None:
    name = os.fsdecode(NAMES[encoding])
    (folder / "results").rename(folder / name)
    search(folder, "--results", name, trials=6).passed()
    study = f"{name}/tiny"
    assert "6 complete" in call(folder, "status", study).passed()
    call(folder, "report", study, "-o", f"{name}.html").passed()
    (folder / f"{name}.html").read_text(encoding="utf-8", errors="surrogateescape")
    call(folder, "export", study, "-o", f"{name}.yaml").passed()
    call(folder, "latency", study, "--engine", "torch", "--runs", "10").passed()
    assert not list((folder / study).glob(".*"))


@pytest.mark.slow
def test_images_whose_names_are_not_utf_8_are_searched_and_exported(tmp_path: Path) -> None:
    photos = tmp_path / os.fsdecode(NAMES["Latin-1"])
    write_photos(photos, list(map(os.fsdecode, NAMES.values())))
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    words = ["--space", "small.yaml", "--data", str(photos), "--jobs", "1", "--weights", "none"]
    cache = {"MBSEARCH_CACHE": str(tmp_path / "cache")}
    results = f"results {photos.name}"
    options = ("--trials", "1", "--finals", "0", "--results", results)
    in_process_of_its_own(tmp_path, "run", *words, *options, **cache).passed()
    study = f"{results}/small"
    assert (tmp_path / study / "front.html").is_file()
    exported = f"{photos.name} export"
    in_process_of_its_own(
        tmp_path, "export", study, "--trial", "0", "--formats", "pytorch", "-o", exported, **cache
    ).passed()
    labels = (tmp_path / exported / "labels.txt").read_bytes()
    assert sorted(labels.splitlines()) == sorted(NAMES.values())


SITE = """
import errno, os
def fail(*_, error=getattr(errno, os.environ["FAILING"])):
    raise OSError(error, os.strerror(error))
import fcntl
fcntl.flock = fail
"""


def without_locks(folder: Path, error: str, *words: str, **variables: str) -> Ran:
    """Run a command as on a file system where flock fails."""
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site" / "sitecustomize.py").write_text(SITE)
    number = getattr(errno, error)
    with patch("fcntl.flock", side_effect=OSError(number, os.strerror(number))):
        return call(folder, *words, FAILING=error, PYTHONPATH=str(folder / "site"), **variables)


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_named_with_the_ways_out(tmp_path: Path, error: str) -> None:
    write_table(tmp_path)
    words = ("--table", "truth.json", "--trials", "1")
    ran = without_locks(tmp_path, error, "run", "--space", "tiny", *words)
    message = ran.refused()
    assert "results/tiny: its file system has no file locks" in message
    assert "--results" in message
    assert "--storage" in message


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_cache_without_locks_is_named_with_its_variable(tmp_path: Path, error: str) -> None:
    write_photos(tmp_path / "photos", ["cat", "dog"])
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    words = ("run", "--space", "small.yaml", "--data", "photos", "--weights", "none", "--dry-run")
    cache = {"MBSEARCH_CACHE": str(tmp_path / "cache")}
    message = without_locks(tmp_path, error, *words, **cache).refused()
    assert str(tmp_path / "cache") in message
    assert "cannot write the image cache" in message
    assert "MBSEARCH_CACHE" in message


# 21. A run without a network


@pytest.mark.parametrize("accuracy", [0.5, 1.0, 0])
def test_a_run_of_which_every_trial_failed_shows_the_first_error(
    tmp_path: Path, accuracy: float
) -> None:
    (tmp_path / "none.json").write_text(json.dumps({"0123456789abcdef": accuracy}))
    words = ("--space", "v2", "--jobs", "1", "--trials", "2", "--table", "none.json")
    ran = call(tmp_path, "run", *words)
    assert ran.code == 1, ran.text
    [line] = [each for each in ran.text.splitlines() if each.startswith("error: ")]
    assert "error: every trial failed; the first, trial 0: " in line
    assert "none.json" in line


def _note(path: Path, writer: int) -> None:
    study = optuna.load_study(study_name="tiny", storage=open_journal(path, create=True))
    for i in range(20):
        study.set_user_attr(f"note {writer}", i)
