"""What stands beside a study: read whole, or refused in one message."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mbsearch.errors import StorageError
from mbsearch.study.artifacts import (
    AUDIT,
    LATENCY,
    MULT_ADDS,
    PROXY,
    Audit,
    Quartiles,
    Ranking,
    read_latencies,
    read_measured,
)

ROW = {
    "engine": "torch",
    "fingerprint": "ab",
    "lower_quartile_seconds": 0.001,
    "median_seconds": 0.002,
    "upper_quartile_seconds": 0.004,
}


def written(folder: Path, *rows: object) -> Path:
    (folder / LATENCY).write_text(json.dumps({"networks": rows}))
    return folder


def test_latencies_are_by_engine_and_network(tmp_path: Path) -> None:
    found = read_latencies(written(tmp_path, ROW, {**ROW, "engine": "onnxruntime"}))
    times = {"ab": Quartiles(1000.0, 2000.0, 4000.0)}
    assert found == {"torch_us": times, "onnxruntime_us": times}


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
def test_a_damaged_latency_is_one_message(tmp_path: Path, row: object) -> None:
    with pytest.raises(StorageError, match=r"latency.json: expected what `mbsearch latency` writ"):
        read_latencies(written(tmp_path, ROW, row))
    measured = read_measured(tmp_path)
    assert measured.latencies == {}
    assert len(measured.problems) == 1


def test_an_audit_of_another_proxy_is_not_passed_off_as_this_studys(tmp_path: Path) -> None:
    stamp = {"data_key": "ab", "space": "cd", "proxy": {"epochs": 4, "growth": 0.0}}
    more = {"seed": 3, "limits": {}}
    rows = [Ranking(score, 0.5, 0.25, 0.75, (0.4, 0.3, 0.2), 0.02) for score in (PROXY, MULT_ADDS)]
    audit = Audit("tiny", "embedded", "30 epochs", 24, 7.25, 0.012, rows, stamp=stamp)
    (tmp_path / AUDIT).write_text(json.dumps(asdict(audit)))

    def said(**others: object) -> str:
        found = read_measured(tmp_path, {**stamp, **more, **others}).audit
        assert found is not None
        return found.sentence()

    assert said() == audit.sentence()
    assert "NOT what this study searches by (proxy.epochs was 4 and is 6)" in said(
        proxy={"epochs": 6, "growth": 0.0}
    )
    assert "its images are others now" in said(data_key="xy")
    assert said(proxy={"epochs": 4}) == audit.sentence(), "a study from before there was growth"
    (tmp_path / AUDIT).write_text(json.dumps(asdict(replace(audit, stamp=None))))
    assert said(data_key="xy") == audit.sentence(), "an audit of older versions does not know"


def test_a_study_without_files_is_no_problem(tmp_path: Path) -> None:
    assert read_measured(tmp_path).problems == ()
