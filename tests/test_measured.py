"""What stands beside a study: read whole, or refused in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mbsearch.errors import StorageError
from mbsearch.measured import LATENCY, Quartiles, read_latencies, read_measured

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


def test_a_study_without_files_is_no_problem(tmp_path: Path) -> None:
    assert read_measured(tmp_path).problems == ()
