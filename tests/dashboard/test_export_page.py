"""The export buttons of a network's page: formats, progress, the file, a missing package."""

from __future__ import annotations

import errno
import importlib.util
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import wait_for

from dashboard.page import Page, needs_browser
from mbsearch.dashboard import downloads
from mbsearch.dashboard.downloads import FORMATS
from mbsearch.export import formats
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL
from mbsearch.study.store import load_study

MISSING = [
    name
    for name in FORMATS
    if not all(map(importlib.util.find_spec, formats.FORMATS[name].packages))
]
READY = ["yaml", "pytorch", "onnx"]  # every format has its own tests
WATCH = """
const status = document.querySelector('#export-status');
window.progress = [];
new MutationObserver(() => window.progress.push(status.innerText))
  .observe(status, {childList: true, subtree: true, characterData: true});
"""


def export(page: Page, names: list[str]) -> None:
    chosen = f"window.dash_clientside.set_props('export-formats', {{value: {names}}})"
    page.browser.execute_script(chosen)
    page.js("document.querySelector('#take-all').click()")


@pytest.fixture
def seeded(page: Page) -> Iterator[str]:
    """A study that knows its seed, which the weights of an export need."""
    folder = shutil.copytree(page.folder / "first", page.folder / "seeded")
    store = load_study(open_journal(folder / JOURNAL, create=False))
    store.search.set_user_attr("stamp", {"data": "photos", "data_key": "ab", "seed": 0})
    yield folder.name
    shutil.rmtree(folder)


@needs_browser
def test_formats_arrive_as_a_file_and_the_progress_is_shown(
    page: Page, seeded: str, tmp_path: Path
) -> None:
    record = min((r for r in page.records(seeded) if not r.is_baseline), key=lambda r: r.mult_adds)
    page.downloads_to(tmp_path)
    page.open(f"/network?study={seeded}&trial={record.trial}", "#layers tbody tr")
    page.browser.execute_script(WATCH)
    export(page, READY)
    file = tmp_path / f"{record.slug}.zip"
    wait_for(file.exists, "the file", 300)
    expected = f"Exported {len(READY)} formats in "
    wait_for(lambda: expected in page.text("#export-status"), "the end")
    texts = page.js("window.progress")
    assert any(f" of {len(READY)}, " in text and text.endswith(" s") for text in texts), texts
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        names = {Path(name).name for name in archive.namelist()}
    for name in READY:
        if not formats.FORMATS[name].optional:
            assert set(formats.FORMATS[name].files) <= names, name
    if MISSING:
        export(page, MISSING[:1])
        wait_for(lambda: "pip install" in page.text("#export-status"), "the reason", 60)


def test_an_export_that_finds_no_room_ends_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "zipped_export", full)
    exports = downloads.Exports()
    job = exports.job(exports.start(["results/a"], 1, ["onnx"], {}))
    assert job is not None
    wait_for(lambda: job.ended is not None, "the end of the export")
    assert "No space left on device" in job.status()
