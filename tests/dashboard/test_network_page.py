"""The page of a network: comparison, state, drawing, code, exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import wait_for

from dashboard.page import Page, needs_browser
from mbsearch.config.families import scaled_reference
from mbsearch.dashboard.downloads import DEFAULT_FORMATS, FORMATS, WRITING, ExportJob, Exports
from mbsearch.dashboard.pages.network import comparisons, snippets, state_text
from mbsearch.export import formats
from mbsearch.export.exportable import Exportable
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.opening import read_study
from mbsearch.study.records import State
from mbsearch.training.network import build


def test_a_pruned_network_says_after_which_epoch(studies: Path) -> None:
    record = read_study(studies / "first").records()[-1]
    assert record.evaluation is not None
    assert state_text(record) == "completed"
    short = replace(record.evaluation, curve=record.evaluation.curve[:1])
    pruned = replace(record, state=State.PRUNED, evaluation=short)
    assert state_text(pruned) == "pruned after epoch 1 of 3"


def test_a_network_is_compared_with_the_nearest_reference_of_each_family(studies: Path) -> None:
    records = read_study(studies / "first").records()
    candidate = next(r for r in records if not r.is_baseline)
    lines = comparisons(candidate, records)
    assert len(lines) == 2
    assert lines[0].startswith(f"Trial {candidate.trial} needs")
    assert "MobileNetV2" in lines[0]
    assert "MobileNetV1" in lines[1]


def test_an_export_says_its_progress_in_formats_and_seconds() -> None:
    job = ExportJob(("yaml", "onnx"))
    assert job.status() == "Export of 2 formats starts, 0 s"
    job.begun += ["yaml", "onnx"]
    assert job.status() == "onnx: format 2 of 2, 0 s"
    job.ended = job.started + 12
    assert job.status() == "Exported 2 formats in 12 s"
    job.error = "trial 1: no message"
    assert job.status() == "trial 1: no message"


def test_the_page_offers_every_format() -> None:
    assert tuple(formats.FORMATS) == FORMATS
    assert formats.DEFAULT_FORMATS == DEFAULT_FORMATS


@pytest.mark.slow
def test_the_code_on_the_page_runs_on_exported_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = scaled_reference("mobilenet_v2", 0.1, 32, num_classes=3)
    exportable = Exportable(network, build(network, seed=0), "tiny", None, None)
    with caplog.at_level("INFO", "mbsearch"):
        formats.export(exportable, tmp_path / "out", ("pytorch", "onnx"))
    assert [line.removeprefix(WRITING) for line in caplog.messages] == ["pytorch", "onnx"]
    monkeypatch.chdir(tmp_path / "out")
    monkeypatch.syspath_prepend(tmp_path / "out")
    for code in snippets(ImageFormat.of(32)).values():
        names: dict[str, Any] = {}
        exec(code, names)
        assert tuple(names["logits"].shape) == (1, 3)


@needs_browser
def test_a_network_is_compared_exported_and_its_stage_marked(page: Page, tmp_path: Path) -> None:
    record = next(r for r in page.records() if not r.is_baseline)
    page.open(f"/network?study=first&trial={record.trial}", "#drawing .main-svg .trace")
    assert page.text("#state") == "completed"
    plot = "document.querySelector('#bars .js-plotly-plot')"
    page.wait("#bars .main-svg .trace")
    page.drag("#drawing .barlayer .point path", 0)
    dimmed = f"{plot}.data.flatMap(t => Array.from(t.marker.opacity || []))"
    wait_for(lambda: set(page.js(dimmed)) == {1, 0.25}, "the marked stage")
    assert not page.wait("#layers-section").get_property("open")
    page.wait("#layers-section summary").click()
    assert page.wait("#layers-section").get_property("open")
    page.wait("a.compare").click()
    page.wait("#differences tbody tr")
    assert page.address()["trial"] == str(record.trial)
    assert "other" in page.address()


def test_an_export_of_an_unknown_trial_gives_the_reason(studies: Path) -> None:
    exports = Exports()
    key = exports.start([str(studies / "first")], 999, ["yaml"], {})
    job = exports._jobs[key]
    wait_for(lambda: job.ended, "the end")
    assert exports.job(key) is job
    assert "expected a trial of the study" in job.status()
    assert exports.job(key) is None
