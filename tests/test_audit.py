"""The audit of a proxy: its statistics against direct computation, and a real one of `tiny`."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from former_spaces import FORMER_V2
from noise_images import write_noise_images
from reports.in_process import InThisProcess
from scipy.stats import kendalltau

from mbsearch import cli
from mbsearch.analysis.calibration import add_gain, long_training_gain
from mbsearch.analysis.family_bias import family_bias
from mbsearch.analysis.rank_agreement import Judged, noise, rankings
from mbsearch.audit import run as audit_module
from mbsearch.audit.run import audit
from mbsearch.config.budgets import Limits
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.config.survey import sample_by_cost
from mbsearch.cost import measure
from mbsearch.errors import EvaluationError, SpecError, StorageError
from mbsearch.evaluation import by_training
from mbsearch.execution.local import Finished, LocalProcesses
from mbsearch.execution.protocol import Task
from mbsearch.progress import Progress
from mbsearch.space.size import Size
from mbsearch.study.audit_file import AUDIT, read_audit
from mbsearch.study.records import Evaluation
from mbsearch.study_run import _identity


def judged(count: int = 60, quality: float = 1.0, seed: int = 0) -> list[Judged]:
    """Networks whose truth follows their cost, and whose proxy sees it as well as asked."""
    rng = np.random.default_rng(seed)
    cost = np.sort(rng.uniform(1, 10, count))
    truth = np.log(cost) / 5 + rng.normal(0, 0.1, count)
    loss = -truth + rng.normal(0, 0.3 * (1 - quality), count)
    return [
        Judged(t, {"mult_adds": round(1e6 * c), "params": 5}, (t, t + 0.02), (v, v), 1.0)
        for t, c, v in zip(truth, cost, loss, strict=True)
    ]


def test_a_perfect_proxy_has_tau_one_and_no_regret() -> None:
    by_score = {each.score: each for each in rankings(judged())}
    proxy, counting = by_score["proxy"], by_score["mult_adds"]
    assert (proxy.tau, proxy.thirds, proxy.regret) == (1, (1, 1, 1), 0)
    assert 0 < counting.tau < 1
    assert counting.low < counting.tau < counting.high
    assert counting.regret > 0
    assert by_score["params"].tau == 0, "all have as many"


def test_growth_is_a_score_beside_the_proxy() -> None:
    rng = np.random.default_rng(0)
    networks = []
    for loss, cost, params in rng.uniform((0.5, 1e6, 1e5), (2, 1e8, 1e6), (60, 3)):
        costs = {"mult_adds": round(cost), "params": round(params)}
        truth = add_gain(math.exp(-loss), long_training_gain(costs, 0.4))
        networks.append(Judged(truth, costs, (0.5,), (loss,), 1.0))
    right, shipped = (
        {each.score: each.tau for each in rankings(networks, growth=rate)} for rate in (0.4, 0.1)
    )
    assert right["proxy and growth"] == 1
    assert 1 > shipped["proxy and growth"] > shipped["proxy"] == right["proxy"]


def test_taus_are_those_of_scipy_inside_each_third_of_the_costs() -> None:
    networks = judged(quality=0.5)
    proxy = next(each for each in rankings(networks) if each.score == "proxy")
    for i, third in enumerate(proxy.thirds):
        part = networks[20 * i : 20 * i + 20]  # they are sorted by cost
        expected = kendalltau([-n.losses[0] for n in part], [n.truth for n in part]).statistic
        assert third == pytest.approx(expected)
    assert proxy.low < proxy.tau < proxy.high


def test_intervals_are_bootstrapped_over_networks() -> None:
    networks = judged(quality=0.5)
    loss = np.array([n.losses[0] for n in networks])
    truth = np.array([n.truth for n in networks])
    draws = np.random.default_rng(7).integers(0, len(loss), (500, len(loss)))
    taus = [kendalltau(-loss[rows], truth[rows]).statistic for rows in draws]
    proxy = next(each for each in rankings(networks, seed=7) if each.score == "proxy")
    assert (proxy.low, proxy.high) == pytest.approx(tuple(np.quantile(taus, [0.05, 0.95])))


def test_regret_is_the_accuracy_lost_by_choosing_with_the_score() -> None:
    networks = [
        Judged(truth, {"mult_adds": cost, "params": cost}, (0.5,), (loss,), 1.0)
        for truth, cost, loss in [(0.5, 1, 0.2), (0.9, 2, 0.9), (0.6, 3, 0.1), (0.8, 4, 0.8)]
    ]
    proxy = next(each for each in rankings(networks) if each.score == "proxy")
    assert proxy.regret == pytest.approx(np.mean([0, 0.4, 0.3, 0.3]))


def test_noise_is_the_spread_over_seeds() -> None:
    assert noise(judged()) == pytest.approx(0.02 / np.sqrt(2))
    single = Judged(0.5, {"mult_adds": 1, "params": 1}, (0.5,), (0.5,), 1.0)
    assert noise([single]) is None


def test_a_family_bias_is_the_residual_of_its_true_accuracy() -> None:
    candidates = judged()
    members = judged(8, seed=1)
    fair = family_bias("mobilenet_v2", members, candidates)
    assert abs(fair.gain) < fair.error
    assert fair.networks == 8
    assert fair.clause().endswith("(not significant)")
    worse = [replace(m, truth=m.truth - 0.2) for m in members]
    flattered = family_bias("mobilenet_v2", worse, candidates)
    assert flattered.gain == pytest.approx(fair.gain - 0.2)
    assert flattered.error == pytest.approx(fair.error)
    assert flattered.clause().startswith("overestimates mobilenet_v2 by 0.")
    assert flattered.clause().endswith("(significant)")
    better = [replace(m, truth=m.truth + 0.2) for m in members]
    underrated = family_bias("mobilenet_v2", better, candidates)
    assert underrated.clause().startswith("underestimates mobilenet_v2 by 0.")
    few = family_bias("mobilenet_v2", members[:2], candidates)
    assert few.error > fair.error
    with pytest.raises(ValueError, match="expected members and a line"):
        family_bias("mobilenet_v2", [], candidates)
    with pytest.raises(ValueError, match="expected members and a line"):
        family_bias("mobilenet_v2", members, candidates[:2])


@pytest.mark.slow
def test_an_audit_includes_the_mobilenets_of_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "LocalProcesses", InThisProcess)
    images = write_noise_images(tmp_path / "images", {"train": 100, "val": 40, "test": 20})
    begun: list[Progress] = []
    found = audit(
        quick(), folder=tmp_path, networks=6, references=2, seeds=1, epochs=1, jobs=2,
        data=str(images), on_progress=begun.append,
    )  # fmt: skip
    totals = {event.total for event in begun if event.phase == "audit"}
    assert totals == {16}, "each network has a short and a long training"
    assert [(each.family, each.networks) for each in found.family_biases] == [
        ("mobilenet_v1", 1),
        ("mobilenet_v2", 1),
    ]
    assert read_audit(tmp_path) == found
    assert found.sentence().count("mobilenet_v") == 2
    scoring = by_training(quick(), str(images), 0, None, tmp_path)
    of_study = _identity(scoring, 0)
    assert found.identity == {key: of_study[key] for key in ("data_key", "space", "proxy")}
    events: list[Progress] = []
    longer = audit(
        quick(), folder=tmp_path, networks=6, references=2, seeds=1, epochs=2, jobs=2,
        data=f"{images}/", on_progress=events.append,
    )  # fmt: skip
    audited = [event for event in events if event.phase == "audit"]
    assert audited[0].completed == 8, "the short trainings are not repeated"
    assert longer.truth.startswith("2 epochs")
    old = json.loads((tmp_path / AUDIT).read_text())
    del old["leans"]
    (tmp_path / AUDIT).write_text(json.dumps(old))
    before = read_audit(tmp_path)
    assert before is not None
    assert before.family_biases == []


@pytest.mark.parametrize("space", [FORMER_V2, "v2", "photos"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_the_number_of_audited_mobilenets_is_the_requested_one(space: str, count: int) -> None:
    found = audit_module._references(load_specification(space), count)
    assert len(found) == count
    assert len({network.fingerprint for _, network in found}) == count


@pytest.mark.slow
def test_an_audit_leaves_out_a_network_that_cannot_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    space = quick().with_classes(2)
    images = write_noise_images(tmp_path / "images", {"train": 100, "val": 40, "test": 20})
    truth = {
        space.decode(params).fingerprint: 0.5 + 0.001 * i
        for i, params in enumerate(space.enumerate_params())
    }
    table = tmp_path / "truth.json"
    table.write_text(json.dumps(truth))
    spoilt = sample_by_cost(space, 7, 0)[0].fingerprint
    monkeypatch.setattr(audit_module, "LocalProcesses", partial(Failing, spoilt))
    found = audit(
        space, folder=tmp_path, networks=7, seeds=1, truth=table, jobs=1, data=str(images)
    )
    assert found.networks == 6
    (line,) = [each for each in caplog.messages if spoilt in each]
    assert line.endswith("diverged; the audit leaves it out")
    spoilt = sample_by_cost(space, 6, 0)[0].fingerprint
    monkeypatch.setattr(audit_module, "LocalProcesses", partial(Failing, spoilt))
    with pytest.raises(EvaluationError, match=r"expected at least 6 networks .* got 5"):
        audit(
            space, folder=tmp_path / "b", networks=6, seeds=1, truth=table, jobs=1,
            data=str(images),
        )  # fmt: skip


class Failing(LocalProcesses):
    """Workers that cannot train one network."""

    def __init__(self, spoilt: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spoilt, self.failed = spoilt, list[Finished]()

    def submit(self, ticket: int, task: Task) -> None:
        if task.architecture.fingerprint == self.spoilt:
            self.failed.append(Finished(ticket, error="diverged"))
        else:
            super().submit(ticket, task)

    def wait(self, timeout: float) -> list[Finished]:
        failed, self.failed = self.failed, []
        return failed or super().wait(timeout)


def test_the_sample_is_distinct_and_spread_over_the_costs() -> None:
    networks = sample_by_cost(load_specification(FORMER_V2), 20, seed=0)
    costs = [measure(network)["mult_adds"] for network in networks]
    assert costs == sorted(costs)
    assert len({network.fingerprint for network in networks}) == 20
    assert max(costs) <= 600_000_000
    assert networks == sample_by_cost(load_specification(FORMER_V2), 20, seed=0)


def test_mistakes_are_one_message(tmp_path: Path) -> None:
    tiny = load_specification("tiny")
    with pytest.raises(SpecError, match="--networks: expected at least 6, got 5"):
        audit(tiny, folder=tmp_path, networks=5)
    with pytest.raises(SpecError, match=r"expected 6 networks within the limits .* got 0"):
        audit(tiny.with_settings({"limits": Limits(mult_adds=1_000)}), folder=tmp_path, networks=6)
    table = tmp_path / "truth.json"
    table.write_text(json.dumps({tiny.with_classes(10).sample(0).fingerprint: 0.5}))
    with pytest.raises(EvaluationError, match=r"truth.json: expected every network of the space"):
        audit(tiny, folder=tmp_path, networks=6, truth=table)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rankings": [{"tau": 1}]}'])
def test_a_damaged_file_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / AUDIT).write_text(text)
    with pytest.raises(StorageError, match=r"audit.json: expected what .* got a damaged file"):
        read_audit(tmp_path)
    read = partial(audit_module._Trained.read, tmp_path / "audit")
    evaluation = Evaluation(0.5, 1.0, 2.0, 0, Size.square(16), (), "fake", {}, "cpu")
    read({"seed": 0}).add("a network", evaluation)
    row = {"accuracy": 0.5, "loss": 1.0, "seconds": 2.0}
    assert read({"seed": 0}).rows == {"a network": row}
    assert read({"seed": 1}).rows == {}, "of another seed"
    (trainings,) = (tmp_path / "audit").iterdir()
    trainings.write_text(text)
    with pytest.raises(StorageError, match=rf"{trainings.name}: .* got a damaged file"):
        read({"seed": 0})
    assert trainings.read_text() == text


def quick() -> SearchSpecification:
    tiny = load_specification("tiny")
    proxy = tiny.settings.proxy.model_copy(
        update={"train_images": 64, "validation_images": 100, "epochs": 1}
    )
    return tiny.with_settings({"proxy": proxy})


@pytest.mark.slow
def test_an_audit_resumes_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = quick().with_classes(10)
    truth = {
        space.decode(params).fingerprint: 0.5 + 0.001 * i
        for i, params in enumerate(space.enumerate_params())
    }
    table = tmp_path / "truth.json"
    table.write_text(json.dumps(truth))
    folder = tmp_path / "results" / "tiny"
    completed: list[int] = []

    def interrupt(event: Progress) -> None:
        assert event.total == 6
        completed.append(event.completed)
        if event.completed == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(space, folder=folder, networks=6, seeds=1, truth=table, jobs=1, on_progress=interrupt)
    found = audit(
        space, folder=folder, networks=6, seeds=1, truth=table, jobs=1,
        on_progress=lambda event: completed.append(event.completed),
    )  # fmt: skip
    assert completed == [0, 1, 2, 3, 3, 4, 5, 6]
    assert read_audit(folder) == found
    assert json.loads((folder / AUDIT).read_text())["networks"] == 6
    assert ("better than counting" in found.sentence()) == (
        found.rankings[2].tau > found.rankings[0].tau or "NO better" in found.sentence()
    )
    assert read_audit(tmp_path) is None

    (tmp_path / "quick.yaml").write_text(space.to_yaml())
    monkeypatch.chdir(tmp_path)
    arguments = "audit --space quick.yaml --networks 6 --seeds 1 --jobs 1 --truth truth.json"
    with pytest.raises(SystemExit) as end:
        cli.main(arguments.split())
    assert end.value.code == 0
    assert "counting Mult-Adds on 6 networks" in " ".join(capsys.readouterr().out.split())
