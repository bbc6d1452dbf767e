"""Files beside a study: they are read back, or a damaged one is one line of error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from answer_records import network

from mbsearch.analysis.findings import Findings
from mbsearch.errors import StorageError
from mbsearch.report.result_files import write_results
from mbsearch.study.artifacts import read_artifacts
from mbsearch.study.audit_file import MULT_ADDS, PROXY, Audit, RankAgreement
from mbsearch.study.latency_file import LATENCY, LatencyFile, Quartiles

ROW = {
    "name": "trial 1",
    "fingerprint": "ab",
    "alpha": 1.0,
    "resolution": 32,
    "mult_adds": 1000,
    "engine": "torch",
    "threads": 1,
    "runs": 100,
    "lower_quartile_seconds": 0.001,
    "median_seconds": 0.002,
    "upper_quartile_seconds": 0.004,
}


def written(folder: Path, *rows: object) -> Path:
    (folder / LATENCY).write_text(json.dumps({"networks": rows}))
    return folder


def test_latencies_are_by_engine_and_network(tmp_path: Path) -> None:
    found = LatencyFile.read(written(tmp_path, ROW, {**ROW, "engine": "onnxruntime"}))
    times = {"ab": Quartiles(1000.0, 2000.0, 4000.0)}
    assert found.by_metric() == {"torch_us": times, "onnxruntime_us": times}


@pytest.mark.parametrize(
    "row",
    [
        [],
        {"engine": "torch"},
        {**ROW, "median_seconds": "soon"},
        {**ROW, "median_seconds": 0.005},
        {**ROW, "lower_quartile_seconds": 0},
        {**ROW, "upper_quartile_seconds": float("nan")},
        {**ROW, "engine": 3},
    ],
)
def test_a_damaged_latency_file_is_one_line_of_error(tmp_path: Path, row: object) -> None:
    with pytest.raises(StorageError, match=r"latency.json: expected what `mbsearch latency` writ"):
        LatencyFile.read(written(tmp_path, ROW, row))
    measured = read_artifacts(tmp_path)
    assert measured.latencies == {}
    assert len(measured.problems) == 1


def test_an_audit_of_another_proxy_has_a_caveat(tmp_path: Path) -> None:
    identity = {"data_key": "ab", "space": "cd", "proxy": {"epochs": 4, "growth": 0.0}}
    more = {"seed": 3, "limits": {}}
    rows = [
        RankAgreement(score, 0.5, 0.25, 0.75, (0.4, 0.3, 0.2), 0.02) for score in (PROXY, MULT_ADDS)
    ]
    audit = Audit("tiny", "embedded", "30 epochs", 24, 7.25, 0.012, rows, identity=identity)
    audit.write(tmp_path)

    def said(**others: object) -> str:
        found = read_artifacts(tmp_path, {**identity, **more, **others}).audit
        assert found is not None
        return found.sentence()

    assert said() == audit.sentence()
    assert "NOT what this study searches by (proxy.epochs was 4 and is 6)" in said(
        proxy={"epochs": 6, "growth": 0.0}
    )
    assert "its images are others now" in said(data_key="xy")
    assert said(proxy={"epochs": 4}) == audit.sentence(), "a study of a version without growth"
    other = {**identity, **more, "proxy": {"epochs": 6, "growth": 0.0}}
    write_results(tmp_path, Findings([network(0, 0.5, 1_000_000)]), "title", other)
    assert "NOT what this study searches by" in (tmp_path / "front.html").read_text()
    replace(audit, identity=None).write(tmp_path)
    assert said(data_key="xy") == audit.sentence(), "an audit of an older version has no identity"


def test_a_study_without_files_has_no_problems(tmp_path: Path) -> None:
    assert read_artifacts(tmp_path).problems == ()


def test_a_card_with_a_class_of_undecodable_bytes_is_read(tmp_path: Path) -> None:
    card = tmp_path / "answer-20M" / "README.md"
    card.parent.mkdir()
    card.write_bytes(b"classes: caf\xe9\n")
    assert read_artifacts(tmp_path).int8 == {}
