from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from fake_search import TINY
from former_spaces import FORMER_V2
from tiny_objectives import table, towards

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.cli import main
from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.cost.metrics import LATENCY
from mbsearch.errors import ExportError, SpecError
from mbsearch.latency import fit as fitting
from mbsearch.latency.model import LEAST, LatencyModel, features, measure_of_study
from mbsearch.latency.probe_design import probe_networks
from mbsearch.retraining.competitors import equal_cost_references
from mbsearch.search.references import round_budgets
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import load_reference
from mbsearch.study.latency_file import Latency
from mbsearch.study.latency_setting import MODEL_KEY, LatencySetting
from mbsearch.study.opening import read_study
from mbsearch.study_run import run

SETTING = LatencySetting("onnxruntime", 1, "some processor", {"onnxruntime": "1.22"})
TRUTH = {
    "network": 20.0,
    "pointwise count": 3.0,
    "pointwise mult_adds": 2e-5,
    "depthwise bytes": 5e-5,
    "depthwise count": 2.0,
    "convolution mult_adds": 8e-5,
    "linear bytes": 1e-5,
}


def true_microseconds(network: Architecture) -> float:
    return sum(TRUTH.get(k, 0.0) * value for k, value in features(network.layers()).items())


def sample(count: int, seed: int = 0) -> list[Architecture]:
    space, rng = load_specification(FORMER_V2), Random(seed)
    return [space.decode(space.sample_params(rng)) for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    """Fitted to an additive truth that is measured without noise."""
    networks = sample(60)
    return LatencyModel.fit(networks, [true_microseconds(n) for n in networks], SETTING)


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The additive truth in the place of measurements; how many networks each asked for."""
    asked: list[int] = []

    def measured(networks: Sequence[Architecture], **_: Any) -> list[Latency]:
        asked.append(len(networks))
        times = [1e-6 * true_microseconds(network) for network in networks]
        return [Latency("onnxruntime", 1, 100, time, time, time) for time in times]

    monkeypatch.setattr(fitting, "measure_latency", measured)
    return asked


def test_an_additive_latency_is_recovered(model: LatencyModel) -> None:
    networks = sample(40, seed=1)
    for network in networks:
        predicted = model.measure(network)
        assert predicted[LATENCY] == pytest.approx(true_microseconds(network), rel=0.01, abs=1)
        assert predicted == {**measure(network), LATENCY: predicted[LATENCY]}
        assert isinstance(predicted[LATENCY], int)
    assert model.worst_error < 0.01
    assert model.kendall_tau > 0.99
    # What no other feature can stand for has its own rate.
    assert model.rates["depthwise bytes"] == pytest.approx(5e-5, rel=0.05)
    assert all(rate >= 0 for rate in model.rates.values())


def test_noise_averages_out_and_the_stated_error_is_right() -> None:
    rng = np.random.default_rng(0)
    networks, fresh = sample(40), sample(100, seed=1)
    noisy = [true_microseconds(n) * rng.lognormal(0, 0.05) for n in networks]
    model = LatencyModel.fit(networks, noisy, SETTING)
    errors = [abs(model.measure(n)[LATENCY] / true_microseconds(n) - 1) for n in fresh]
    assert np.median(errors) < 0.04
    assert 0.02 < model.median_error < 0.08  # the noise of the measurements, and its own
    assert model.median_error <= model.worst_error
    assert model.mult_adds_tau < model.kendall_tau


def test_json_round_trip_is_lossless(model: LatencyModel) -> None:
    again = LatencyModel.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    network = load_reference("mobilenet_v2")
    assert measure_of_study({MODEL_KEY: model.to_dict()})(network) == model.measure(network)
    assert measure_of_study({})(network) == measure(network)
    for part in ("onnxruntime", "some processor", "60 measured networks", "that of Mult-Adds is"):
        assert part in model.sentence()


def test_mistakes_are_one_message(model: LatencyModel) -> None:
    with pytest.raises(SpecError, match=f"at least {LEAST} networks .* got {LEAST - 1}"):
        LatencyModel.fit(sample(LEAST - 1), [1.0] * (LEAST - 1), SETTING)
    with pytest.raises(SpecError, match="got another kind: 'squeeze-excite count'"):
        model.measure(load_reference("mobilenet_v3_small"))


def test_a_search_by_latency_measures_once_and_keeps_the_model(
    tmp_path: Path, timings: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mbsearch")
    space, folder = towards("accuracy", "latency"), tmp_path / "s"
    for trials in (8, 12):
        found = run(
            space,
            trials=trials,
            folder=folder,
            table=table(tmp_path),
            jobs=1,
        )
    assert timings == [fitting.NETWORKS]
    assert sum(line.startswith("measuring the latency") for line in caplog.messages) == 1
    written = json.loads((folder / f"{MODEL_KEY}.json").read_text())
    model = LatencyModel.from_dict(written)
    assert read_study(folder).settings()[MODEL_KEY] == written
    assert caplog.messages.count(model.sentence()) == 1
    assert len(found.records) == 12
    for record in found.records:
        assert record.cost == record.costs[LATENCY] == model.measure(record.architecture)[LATENCY]
    best = answer(Findings(found.records), Budget.model_validate({"latency": "1s"})).record
    assert best.accuracy == max(r.accuracy for r in found.records)
    network = best.architecture
    for rival in equal_cost_references(network, LATENCY, model.measure):
        assert model.measure(rival.architecture)[LATENCY] == pytest.approx(best.cost, rel=0.15)


def test_a_limit_on_latency_holds_with_another_objective(
    tmp_path: Path, timings: list[int]
) -> None:
    middle = sorted(true_microseconds(TINY.decode(p)) for p in TINY.enumerate_params())[80]
    limits = Limits.model_validate({"latency": f"{middle:.0f}us"})
    space = towards("accuracy", "mult_adds", limits=limits)
    found = run(space, trials=10, folder=tmp_path / "s", table=table(tmp_path), jobs=1)
    assert len(found.records) == 10
    assert max(r.costs[LATENCY] for r in found.records) <= middle + 1
    assert found.records[0].metric == "mult_adds"
    tight = towards("accuracy", "latency", limits=Limits.model_validate({"latency": "1us"}))
    with pytest.raises(SpecError, match=r"latency_us \d+ is above the limit of 1"):
        run(tight, trials=1, folder=tmp_path / "t", table=table(tmp_path), jobs=1)
    assert "stamp" not in read_study(tmp_path / "t").settings()  # other limits can follow


def test_a_budget_of_latency_needs_a_study_with_latency(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(TINY, trials=2, folder=tmp_path / "s", table=table(tmp_path), jobs=1)
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "s"), "--max-latency", "5ms"])
    assert ended.value.code == 2
    assert "expected a study that knows latency" in capsys.readouterr().err


def test_torch_measures_if_onnxruntime_is_missing(
    timings: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mbsearch")

    def missing(_: Sequence[str]) -> None:
        raise ExportError("onnx: expected the packages onnxruntime")

    monkeypatch.setattr(fitting, "require", missing)
    model = fitting.fit_latency(TINY, 0, networks=10)
    assert model.setting.engine == "torch"
    assert "by torch" in caplog.messages[0]


@pytest.mark.slow
def test_a_model_is_fitted_to_measured_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well it predicts is a matter of what else the machine does: the model says it itself."""
    space = load_specification("tiny")
    bare = space.with_settings({"baselines": ()})
    monkeypatch.setattr(
        fitting, "require", lambda _: (_ for _ in ()).throw(ExportError("not asked for here"))
    )
    model = fitting.fit_latency(bare, 0, networks=10)
    assert model.setting.threads == 1
    assert model.setting.machine
    assert len(model.networks) == 10
    assert min(each.microseconds for each in model.networks) > 0
    assert min(model.rates.values()) >= 0
    assert max(model.rates.values()) > 0
    assert 0 < model.measure(space.sample(1))[LATENCY] < 1e6


@pytest.mark.parametrize("name", ["tinyml", "v2", "v4"])
def test_a_fitted_model_predicts_every_reference_of_a_space(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MobileNetV3-small has squeeze-excites, which some spaces do not have."""

    def measured(networks: Sequence[Architecture], **_: object) -> list[Latency]:
        times = [measure(each, ["mult_adds"])["mult_adds"] * 1e-9 for each in networks]
        return [Latency("torch", 1, 10, time, time, time) for time in times]

    monkeypatch.setattr(fitting, "measure_latency", measured)
    objectives = {"objectives": ("accuracy", "latency"), "budgets": (), "limits": Limits()}
    space = load_specification(name).with_settings(objectives)
    model = fitting.fit_latency(space, 0, networks=10)
    assert round_budgets(space, model.measure)


@pytest.mark.parametrize("name", ["tinyml", "v4"])
def test_a_probe_kit_has_every_kind_of_layer_of_the_references(name: str) -> None:
    space = load_specification(name).with_settings({"limits": Limits(), "budgets": ()})
    kinds = {kind for each in probe_networks(space, 12, 0) for kind in features(each.layers())}
    for reference in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"):
        assert features(load_reference(reference).layers()).keys() <= kinds
