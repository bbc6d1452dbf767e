"""The scoreboard: rows, margins, the page, and a cell from start to end."""

from __future__ import annotations

import importlib
import json
import subprocess
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from answer_records import network, reference
from noise_images import write_noise_images
from reports.in_process import InThisProcess

from mbsearch.config.families import scaled_reference
from mbsearch.latency.benchmark import measure_latency
from mbsearch.space.architecture import Architecture

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SEARCH = {"cpu_seconds": 60.0, "wall_seconds": 40.0, "peak_bytes": 10**8}


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scoreboard")


@pytest.fixture
def wins(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("wins")


def write_rows(board: ModuleType, folder: Path, answers: list[float], reference: float) -> None:
    """A cell for each accuracy of an answer, all against the same reference."""
    rng = np.random.default_rng(0)
    network = scaled_reference("mobilenet_v2", 0.35, 96, 10)
    accuracies = {f"answer{i}": p for i, p in enumerate(answers)} | {"v2": reference}
    for key, p in accuracies.items():
        correct = rng.random((3, 4000)) < p
        training = board.Trained(
            key=key,
            data="photos",
            name=f"the {key}",
            architecture=network.to_dict(),
            costs={"mult_adds": 10**7, "params": 10**5, "peak_activation_bytes": 10**5},
            pixels=96,
            seconds=[1.0] * 3,
            accuracies=correct.mean(axis=1).tolist(),
            images=4000,
            correct=[board.packed(each) for each in correct],
        )
        board.write_json(folder / "trainings" / f"{key}.json", vars(training))
    for i, _ in enumerate(answers):
        row = {
            "data": "photos",
            "budget": "10M",
            "search": SEARCH | {"name": "a", "sampler": "cost-aware", "seed": i},
            "random_search": SEARCH | {"name": "b", "sampler": "random", "seed": i},
            "answer": f"answer{i}",
            "references": {board.FREE: ["v2"], board.PUBLISHED: []},
            "random": "v2",
            "plain": "v2",
            "latency_ms": {f"answer{i}": 1.0, "v2": 2.0},
            "wall_seconds": 120.0,
        }
        board.write_json(folder / "cells" / f"{i}.json", row)


def test_packed_predictions_read_back(board: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for count in (1, 8, 713):
        correct = rng.random(count) < 0.7
        assert np.array_equal(board.unpacked(board.packed(correct), count), correct)


def test_the_scoreboard_pools_cells_and_names_losses(board: ModuleType, tmp_path: Path) -> None:
    write_rows(board, tmp_path, [0.90, 0.89, 0.80], 0.85)
    found = board.Scoreboard.read(tmp_path)
    margin, cells = found.pooled(lambda row: row.strongest(board.FREE))
    singles = [found.margin(row, "v2").mean for row in found.rows]
    assert cells == 3
    assert margin.mean == pytest.approx(np.mean(singles))
    assert found.pooled(lambda row: row.strongest(board.PUBLISHED)) is None
    (failure,) = found.failures()
    assert failure.startswith("photos, 10M, search 2: significantly behind the v2: -")
    page = found.markdown()
    assert failure in page
    assert "| scaled freely | 3 | +1." in page
    lengths = {line.count("|") for line in page.splitlines() if line.startswith("| photos, ")}
    head = next(line for line in page.splitlines() if line.startswith("| cell"))
    assert lengths == {head.count("|")}
    assert "2 min" in found.line(found.rows[0])


def test_an_answer_that_is_the_reference_has_no_margin(board: ModuleType, tmp_path: Path) -> None:
    write_rows(board, tmp_path, [0.90], 0.85)
    path = tmp_path / "cells" / "0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"answer": "v2"}))
    found = board.Scoreboard.read(tmp_path)
    margin, _ = found.pooled(lambda row: row.strongest(board.FREE))
    assert (margin.mean, margin.low, margin.high) == (0, 0, 0)
    assert found.failures() == []


def test_missing_runs_have_no_margin(board: ModuleType, tmp_path: Path) -> None:
    write_rows(board, tmp_path, [0.90], 0.85)
    path = tmp_path / "cells" / "0.json"
    missing = dict.fromkeys(("random_search", "random", "plain"))
    path.write_text(json.dumps(json.loads(path.read_text()) | missing))
    found = board.Scoreboard.read(tmp_path)
    (row,) = found.rows
    assert not row.is_complete
    (line,) = (each for each in found.markdown().splitlines() if each.startswith("| photos, "))
    assert line.count("not run") == 3
    assert "| random search |" not in found.markdown()


def test_an_empty_scoreboard_is_a_page(board: ModuleType, tmp_path: Path) -> None:
    assert "None." in board.Scoreboard.read(tmp_path).markdown()


def test_a_subset_of_a_data_set_depends_on_its_seed(wins: ModuleType, tmp_path: Path) -> None:
    images = write_noise_images(tmp_path / "all", {"train": 20, "test": 3})

    def drawn(name: str, seed: int) -> list[str]:
        folder = wins.drawn_part(images, tmp_path / name, 5, seed)
        assert len(list((folder / "test" / "dark").iterdir())) == 3
        return sorted(str(p.relative_to(folder)) for p in (folder / "train").glob("*/*.png"))

    first = drawn("a", 0)
    assert len(first) == 10
    assert drawn("a", 0) == drawn("b", 0) == first
    assert drawn("c", 1) != first


def test_references_of_equal_cost_and_equal_accuracy_are_ranked(
    wins: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        network(0, 0.99, 8 * 10**6),
        reference(1, 0.80, 8 * 10**6, alpha=0.2),
        reference(2, 0.70, 8 * 10**6, alpha=0.35),
        reference(3, 0.75, 8 * 10**6, alpha=0.5),
        reference(4, 0.85, 8 * 10**6, alpha=0.2, family="mobilenet_v1"),
        reference(5, 0.95, 18 * 10**6, alpha=0.5, family="mobilenet_v1"),
        reference(6, 0.60, 8 * 10**6, alpha=0.3, family="mobilenet_v3_small"),
    ]
    studies, seeds = [], []

    def read_study(folder: Path) -> SimpleNamespace:
        studies.append(folder.name)
        return SimpleNamespace(records=lambda: records, settings=dict)

    def search(_board: Any, data: Any, seed: int) -> Any:
        seeds.append(seed)
        return wins.Search(f"{data.name}-{seed}", "cost-aware", seed, **SEARCH)

    monkeypatch.setattr(wins, "read_study", read_study)
    monkeypatch.setattr(wins, "search", search)
    board = wins.Board(tmp_path, tmp_path, "v2.yaml", 5, 3, 1, 2, ())
    found = wins.strongest(board, wins.DataSet("photos", "photos", ("10M",)), "10M")
    named = {sense: [network.name for network in group] for sense, group in found.items()}
    assert named == {
        "scaled freely": ["MobileNetV1 0.2/96", "MobileNetV2 0.2/96"],
        "published": ["MobileNetV2 0.5/96"],
    }
    assert (studies, seeds) == (["photos-0"], [0])


def test_the_answer_is_read_from_what_status_prints(
    wins: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = scaled_reference("mobilenet_v3_small", 0.47, 224, 7)
    row: dict[str, Any] = {"name": "trial 43", "origin": "search"}
    row["architecture"] = network.to_dict()

    def status(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[-2:] == ["--budget", "20M"]
        return subprocess.CompletedProcess(command, 0, json.dumps(row))

    monkeypatch.setattr(subprocess, "run", status)
    board = wins.Board(tmp_path, tmp_path, "v2.yaml", 5, 3, 1, 1, ())
    found = wins.Search("photos-random-0", "random", 0, **SEARCH)
    got = wins.answer(board, found, "20M")
    assert got.fingerprint == network.fingerprint
    assert got.name == "trial 43 of random search 0"
    row |= {"name": "MobileNetV3-small 0.47/224", "origin": "mobilenet_v3_small"}
    assert wins.answer(board, found, "20M").name == "MobileNetV3-small 0.47/224"
    row |= {"name": None, "sentence": "no network is within 20 M"}
    with pytest.raises(SystemExit, match="photos-random-0: no network is within 20 M"):
        wins.answer(board, found, "20M")


def tiny_board(wins: ModuleType, folder: Path) -> Any:
    """An empty board whose networks are trained for two epochs."""
    tiny = (BENCHMARKS.parent / "search_spaces" / "tiny.yaml").read_text()
    (folder / "space.yaml").write_text(
        f"{tiny}\nretrain: {{epochs: 2, batch_size: 16, resolution_scale: 0.25}}\n"
    )
    return wins.Board(
        rows=folder / "rows",
        work=folder / "work",
        space=str(folder / "space.yaml"),
        trials=5,
        seeds=1,
        jobs=1,
        references=1,
        run_options=(),
    )


@pytest.mark.slow
def test_a_cell_is_filled_once(
    wins: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    board = tiny_board(wins, tmp_path)
    images = write_noise_images(tmp_path / "images", {"train": 60, "test": 30})
    data = wins.DataSet("photos", str(images), ("5M",))

    def search(_board: Any, _data: Any, seed: int, sampler: str = "cost-aware") -> Any:
        return wins.Search("study", sampler, seed, **SEARCH)

    def answer(_board: Any, found: Any, _budget: str) -> Architecture:
        alpha = 0.1 if found.sampler == "random" else 0.15
        return scaled_reference("mobilenet_v1", alpha, 96, 2).replace(name=found.sampler)

    def strongest(_board: Any, _data: Any, _budget: str) -> Any:
        network = scaled_reference("mobilenet_v2", 0.1, 64, 2)
        return {wins.SENSES[0]: [network], wins.SENSES[1]: []}

    monkeypatch.setattr(wins, "search", search)
    monkeypatch.setattr(wins, "answer", answer)
    monkeypatch.setattr(wins, "strongest", strongest)
    monkeypatch.setattr(wins, "LocalProcesses", InThisProcess)
    # Does not wait for an ONNX file of each network.
    monkeypatch.setattr(wins, "measure_latency", partial(measure_latency, engine="torch"))
    plain = wins.plain

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wins, "plain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wins.fill(board, data, 0)
    (row,) = wins.Scoreboard.read(board.rows).rows
    assert not row.is_complete, "the answer and its references are kept before the rest"
    monkeypatch.setattr(wins, "plain", plain)
    wins.fill(board, data, 0)
    said = capsys.readouterr().out
    assert "photos, 5M, search 0: cost-aware" in said
    (row,) = wins.Scoreboard.read(board.rows).rows
    assert row.is_complete
    assert set(row.latency_ms) >= {row.answer, row.references[wins.SENSES[0]][0]}
    whole = wins.Scoreboard.read(board.rows)
    assert all(len(each.correct) == 1 for each in whole.trainings.values())
    assert {row.answer, row.random, row.plain} < set(whole.trainings)

    def refuse(*_: Any) -> None:
        raise AssertionError("trained again")

    wins.fill(board, data, 0)
    (board.rows / "cells" / "photos-5M-search0.json").unlink()
    monkeypatch.setattr(wins.LocalProcesses, "submit", refuse)
    wins.fill(board, data, 0)
    wins.fill(board, data, 1)
    assert len(wins.Scoreboard.read(board.rows).rows) == 2
