from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mbsearch.analysis.front import front_of
from mbsearch.analysis.kendall import kendall_tau
from mbsearch.cli import main
from mbsearch.errors import ExportError
from mbsearch.latency import benchmark as latency
from mbsearch.latency.benchmark import ENGINES, measure_latency
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import TrialRecord

SMALL = Architecture.model_validate(
    {
        "resolution": 32,
        "stem": {"channels": 8},
        "stages": [{"block": "separable", "channels": 16}],
    }
)


@pytest.mark.parametrize("engine", ENGINES)
def test_median_and_quartiles_are_those_of_the_runs(engine: str) -> None:
    before = torch.get_num_threads()
    (found,) = measure_latency([SMALL], engine=engine, threads=1, runs=20)
    assert torch.get_num_threads() == before
    assert (found.engine, found.threads, found.runs) == (engine, 1, 20)
    quartiles = (found.lower_quartile_seconds, found.median_seconds, found.upper_quartile_seconds)
    assert 0 < quartiles[0] <= quartiles[1] <= quartiles[2]
    assert found.spread == pytest.approx((quartiles[2] - quartiles[0]) / quartiles[1])


def test_networks_take_turns_on_the_threads_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[int, int]] = []

    class Counted(nn.Module):
        def __init__(self, resolution: int) -> None:
            super().__init__()
            self.resolution = resolution

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            assert image.shape == (1, 3, self.resolution, self.resolution)
            calls.append((self.resolution, torch.get_num_threads()))
            return image

    monkeypatch.setattr(latency, "build", lambda network: Counted(network.resolution.height))
    monkeypatch.setattr(latency, "_WARM_UP_SECONDS", 0.0)
    measure_latency([SMALL, SMALL.replace(resolution=64)], engine="torch", threads=2, runs=20)
    one_round = [(32, 2)] * 3 + [(64, 2)] * 3
    assert calls == one_round * 10


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ExportError, match="got 'onnxrt'; did you mean 'onnxruntime'"):
        measure_latency([SMALL], engine="onnxrt")


def cli(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["latency", *arguments, "--engine", "torch", "--runs", "10"])
    return ended.value.code


def test_the_latencies_of_front_and_baselines_are_kept_beside_the_study(
    study: tuple[Path, list[TrialRecord]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, records = study
    before = {
        "name": "other",
        "alpha": 1.0,
        "resolution": 32,
        "mult_adds": 1000,
        "threads": 1,
        "runs": 10,
        "engine": "onnxruntime",
        "fingerprint": "ab",
        "lower_quartile_seconds": 0.001,
        "median_seconds": 0.002,
        "upper_quartile_seconds": 0.004,
    }
    (folder / "latency.json").write_text(json.dumps({"networks": [before]}))
    for _ in range(2):  # the second takes the place of the first, and neither that of ONNX Runtime
        assert cli(str(folder), "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        kept = json.loads((folder / "latency.json").read_text())["networks"]
        assert kept == [before, *printed["networks"]]
    measured = {row["fingerprint"] for row in printed["networks"]}
    expected = {r.fingerprint for r in front_of(records)}
    assert measured == expected | {r.fingerprint for r in records if r.is_baseline}
    rows = printed["networks"]
    assert printed["kendall_tau_with_mult_adds"]["torch"] == pytest.approx(
        kendall_tau([r["mult_adds"] for r in rows], [r["median_seconds"] for r in rows])
    )


def test_a_reference_is_timed_at_every_alpha_and_resolution(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("--alpha", "0.25", "--alpha", "0.5", "--resolution", "32", "--resolution", "64")
    assert cli("mobilenet_v1", *arguments) == 0
    shown = capsys.readouterr().out
    assert shown.count("mobilenet_v1") == 4
    assert "Kendall tau of" in shown


def test_mistakes_are_one_message(
    study: tuple[Path, list[TrialRecord]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli("v2") == 2
    assert (
        "expected an architecture or the folder of a study, got a space" in capsys.readouterr().err
    )
    assert cli(str(study[0]), "--alpha", "0.5") == 2
    assert "--alpha, --resolution: expected an architecture with them" in capsys.readouterr().err


def test_names_are_no_markup_and_a_folder_named_like_a_reference_is_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are no markup, and a folder that is called like a reference is no study."""
    monkeypatch.chdir(tmp_path)
    Path("mobilenet_v1").mkdir()
    Path("n.yaml").write_text(SMALL.replace(name="net [/b]").to_yaml())
    assert cli("mobilenet_v1", "--alpha", "0.25", "--resolution", "32") == 0
    assert cli("n.yaml") == 0
    assert "net [/b]" in capsys.readouterr().out
