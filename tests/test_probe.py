"""The probe kit: networks to measure on a device, and the latency model of their times."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fake_search import TINY
from former_spaces import FORMER_V2
from test_latency_model import true_microseconds
from tiny_objectives import table, towards

from mbsearch.cli import main
from mbsearch.config.budgets import Limits
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.cost.metrics import LATENCY
from mbsearch.errors import DataError, ExportError, SpecError, StorageError
from mbsearch.latency import probe_kit
from mbsearch.latency.model import LEAST, LatencyModel
from mbsearch.latency.probe_design import farthest_points, probe_networks
from mbsearch.latency.probe_kit import write_probe_kit
from mbsearch.latency.probe_times import ARCHITECTURES, read_device_model
from mbsearch.space.architecture import Architecture
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import read_document
from mbsearch.study.latency_setting import PROBE_KIT, LatencySetting
from mbsearch.study.opening import read_study
from mbsearch.study_run import run

V2 = load_specification(FORMER_V2)
RARE = """\
name: rare
resolution: {choices: [32, 48, 64, 96]}
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: {choices: [8, 16, 24]}, stride: 2, expansion: 3,
     kernel: {choices: [3, 5, 7]}}
  - {block: inverted_residual, channels: 16, expansion: {choices: [2, 6]},
     kernel: {choices: [3, 5, 7]}}
head: {channels: 32}
baselines:
  - {reference: mobilenet_v1, alpha: [0.25], resolution: [32]}
"""


@pytest.fixture(scope="module")
def networks() -> dict[str, Architecture]:
    rng = Random(0)
    return {f"probe-{i:02}": V2.decode(V2.sample_params(rng)) for i in range(24)}


@pytest.fixture
def kit(networks: Mapping[str, Architecture], tmp_path: Path) -> Path:
    """A folder with the architectures of a kit, without networks to run."""
    for name, network in networks.items():
        path = tmp_path / "kit" / ARCHITECTURES / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(network.to_yaml())
    return tmp_path / "kit"


def write_times(
    path: Path,
    networks: Mapping[str, Architecture],
    changed: Mapping[str, str | None] | None = None,
    *,
    delimiter: str = ",",
    number: Callable[[float], str] = str,
) -> Path:
    """Write the additive latencies of networks; a changed cell of None leaves the row out."""
    cells = {n: number(true_microseconds(each) / 1000) for n, each in networks.items()}
    cells |= changed or {}  # type: ignore[arg-type]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(("file", "mult_adds", "milliseconds"))
        writer.writerows((name, 0, cell) for name, cell in cells.items() if cell is not None)
    return path


def test_farthest_points_cover_what_random_points_leave_out() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.1, (200, 2)), [[5.0, 5.0], [-5.0, 4.0], [4.0, -5.0]]])
    chosen = farthest_points(points, 10)
    assert len(set(chosen)) == 10
    assert {200, 201, 202} <= set(chosen)
    assert np.linalg.norm(points[chosen[0]] - points.mean(axis=0)) < 0.2
    assert sorted(farthest_points(points[:5], 9)) == [0, 1, 2, 3, 4]


def test_the_networks_have_every_option_of_a_space_of_rare_ones(tmp_path: Path) -> None:
    (tmp_path / "rare.yaml").write_text(RARE)
    space = load_specification(tmp_path / "rare.yaml")
    networks = probe_networks(space, 12, 0)
    assert len({each.fingerprint for each in networks}) == 12
    counts = [measure(each)["mult_adds"] for each in networks]
    assert counts == sorted(counts)
    stages = [stage for each in networks for stage in each.stages]
    assert {getattr(stage, "kernel", None) for stage in stages} == {3, 5, 7}
    assert {each.resolution.plain for each in networks} == {32, 48, 64, 96}
    assert "mobilenet_v1-0.25-32" in {each.name for each in networks}, "the only other family"
    assert networks == probe_networks(space, 12, 0)
    limits = Limits.model_validate({"mult_adds": counts[5]})
    within = probe_networks(space.with_settings({"limits": limits}), 12, 0)
    assert max(measure(each)["mult_adds"] for each in within) <= counts[5]


def test_a_table_of_times_gives_the_model_of_the_device(
    kit: Path, networks: Mapping[str, Architecture], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_times(kit / "pi5.csv", networks)
    with pytest.raises(SystemExit) as ended:
        main(["latency", "--from", str(path)])
    assert not ended.value.code
    printed = capsys.readouterr()
    assert "latency on pi5, measured with the probe kit: a model of 24 measured" in printed.out
    assert "leave-one-out error" in printed.out
    model = read_device_model(path)
    assert read_device_model(kit / "pi5.json") == model
    assert model.setting == LatencySetting(PROBE_KIT, 1, "pi5", {})
    rng = Random(5)
    others = [V2.decode(V2.sample_params(rng)) for _ in range(20)]
    errors = [abs(model.measure(n)[LATENCY] / true_microseconds(n) - 1) for n in others]
    assert np.median(errors) < 0.01


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_of_other_countries_are_read(
    kit: Path, networks: Mapping[str, Architecture], encoding: str
) -> None:
    plain = write_times(kit / "a.csv", networks)
    path = write_times(
        kit / "b.csv", networks, delimiter=";", number=lambda x: str(x).replace(".", ",")
    )
    path.write_text(path.read_text().replace("milliseconds", "Milliseconds"), encoding=encoding)
    assert read_device_model(path).networks == read_device_model(plain).networks


def test_a_network_that_does_not_run_is_left_out(
    kit: Path, networks: Mapping[str, Architecture]
) -> None:
    path = write_times(kit / "small.csv", networks, {"probe-23": "-", "probe-22": " - "})
    assert len(read_device_model(path).networks) == 22
    few = {name: "-" for i, name in enumerate(networks) if i >= LEAST - 1}
    with pytest.raises(SpecError, match=f"at least {LEAST} networks .* got {LEAST - 1}"):
        read_device_model(write_times(kit / "smaller.csv", networks, few))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"probe-03": None}, "milliseconds for each of the 24 networks .* got none for probe-03"),
        ({"probe-03": " "}, "csv:5: milliseconds: expected a number > 0 without a unit, got ' '"),
        ({"probe-03": "", "probe-07": ""}, "got none for probe-03, probe-07"),
        ({"probe-03": "fast"}, "csv:5: milliseconds: expected a number > 0 .* got 'fast'"),
        ({"probe-03": "3.2 ms"}, "number > 0 without a unit, got '3.2 ms'"),
        ({"probe-03": "-3"}, "got '-3'"),
        ({"probe-03": "0"}, "got '0'"),
        ({"probe-03": "nan"}, "got 'nan'"),
        ({"prob-99": "1"}, r"csv:26: file: expected a network of the kit, got 'prob-99'; did you"),
    ],
)
def test_a_mistake_in_the_table_is_one_line_that_names_the_row(
    kit: Path, networks: Mapping[str, Architecture], changed: dict[str, str], expected: str
) -> None:
    path = write_times(kit / "pi5.csv", networks, changed)
    with pytest.raises(DataError, match=expected) as error:
        read_device_model(path)
    assert "\n" not in str(error.value)


def test_other_columns_and_places_are_refused(
    kit: Path, networks: Mapping[str, Architecture], tmp_path: Path
) -> None:
    path = write_times(kit / "pi5.csv", networks)
    text = path.read_text()
    path.write_text(f"{text}probe-01.onnx,0,3\n")
    with pytest.raises(DataError, match="csv:26: file: expected each network once, got probe-01 t"):
        read_device_model(path)
    path.write_text(text.replace("milliseconds", "microseconds"))
    with pytest.raises(DataError, match=r"expected a column 'milliseconds'.*did you mean"):
        read_device_model(path)
    shutil.copy(path, tmp_path / "pi5.csv")
    with pytest.raises(DataError, match="expected the folder architectures of the probe kit"):
        read_device_model(tmp_path / "pi5.csv")
    with pytest.raises(DataError, match="expected a latency model, got no such file"):
        read_device_model(kit / "none.json")
    (kit / "bad.json").write_text("{}")
    with pytest.raises(StorageError, match="damaged"):
        read_device_model(kit / "bad.json")


def tiny_times(folder: Path, name: str, factor: float = 1.0) -> Path:
    """The model file of a device on which the tiny space has additive latencies."""
    found = {n.fingerprint: n for n in map(TINY.decode, TINY.enumerate_params())}
    times = [factor * true_microseconds(each) for each in found.values()]
    setting = LatencySetting(PROBE_KIT, 1, name, {})
    model = LatencyModel.fit(list(found.values()), times, setting)
    model.write_file(folder / f"{name}.json")
    return folder / f"{name}.json"


def test_a_search_for_a_device_uses_its_times_and_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space, folder = towards("accuracy", "latency"), tmp_path / "s"
    caplog.set_level("INFO", "mbsearch")
    times = table(tmp_path)

    def search(trials: int, given: Path | None) -> int:
        found = run(space, trials=trials, folder=folder, table=times, jobs=1, latency_from=given)
        for record in found.records:
            expected = 3 * true_microseconds(record.architecture)
            assert record.costs[LATENCY] == pytest.approx(expected, rel=0.02, abs=2)
        return len(found.records)

    search(4, tiny_times(tmp_path, "pi5", 3.0))
    assert any("latency on pi5, measured with the probe kit" in line for line in caplog.messages)
    assert not any("measuring the latency" in line for line in caplog.messages)
    setting = LatencySetting.of(read_study(folder).settings())
    assert setting is not None
    assert str(setting) == "pi5, measured with the probe kit"
    search(6, None)
    search(7, tmp_path / "pi5.json")
    with pytest.raises(StorageError, match=r"expected the times of pi5, .* got others of stm32"):
        search(8, tiny_times(tmp_path, "stm32"))


def test_a_device_needs_a_search_by_latency(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="--latency-from: expected latency as objective"):
        run(
            TINY,
            trials=1,
            folder=tmp_path / "s",
            table=table(tmp_path),
            latency_from=tiny_times(tmp_path, "pi5"),
        )


def test_options_of_the_kit_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, expected in (
        (["--probe", "kit"], "--probe: expected a space with it"),
        (["v2", "--from", "pi5.csv"], "--from: expected no WHAT with it, got v2"),
        (["--probe", "kit", "--from", "pi5.csv"], "--from: expected no --probe with it, got kit"),
        (["--from", str(tmp_path / "pi5.csv")], "expected the folder architectures"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["latency", *words])
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err.replace("\n", " ")


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ExportError, match="expected a new or empty folder"):
        write_probe_kit(V2, tmp_path)


@pytest.mark.slow
def test_the_readmes_code_measures_the_kit(tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    (tmp_path / "rare.yaml").write_text(RARE)
    written = write_probe_kit(load_specification(str(tmp_path / "rare.yaml")), kit, count=8)
    assert {each.name for each in kit.iterdir()} >= {
        *("README.md", "architectures", "onnx", probe_kit.TEMPLATE)
    }
    for network in written:
        path = kit / ARCHITECTURES / f"{network.name}.yaml"
        assert read_architecture(read_document(path)) == network
    with pytest.raises(DataError, match="got none for probe-01, probe-02"):
        read_device_model(kit / probe_kit.TEMPLATE)
    (code,) = re.findall(r"```python\n(.*?)```", (kit / "README.md").read_text(), re.DOTALL)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=kit,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    model = read_device_model(kit / "pi5.csv")
    assert len(model.networks) == 8
    assert all(0 < each.microseconds < 1e6 for each in model.networks)
    assert json.loads(json.dumps(model.to_dict()))["setting"]["machine"] == "pi5"
