"""Shared weights: what candidates have in common, their training, and trials that inherit them."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest
import torch
from noise_images import write_noise_images
from reports.in_process import training_in_this_process

from mbsearch.accel import accelerate
from mbsearch.config.preparation_settings import Supernet
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.specification import (
    SearchSpecification,
    baseline_architectures,
    load_specification,
    read_specification,
)
from mbsearch.data.sources import load_source
from mbsearch.errors import EvaluationError, StorageError
from mbsearch.execution.protocol import Task
from mbsearch.progress import Progress
from mbsearch.space.yaml_source import parse_document
from mbsearch.study_run import run
from mbsearch.training import resumable_training as preparation
from mbsearch.training.loop import forward_with
from mbsearch.training.network import build, skeleton
from mbsearch.training.preparations import SUPERNET
from mbsearch.training.proxy import ProxyTraining
from mbsearch.training.resumable_training import prepare
from mbsearch.training.supernet import supernet_training
from mbsearch.training.supernet.shared_weights import (
    fresh_weights,
    inherit,
    is_whole,
    shared_names,
    slices,
    thinner,
)
from mbsearch.training.supernet.supernet_training import SupernetTraining, load_shared

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(**supernet: float) -> SearchSpecification:
    space = load_specification("tiny")
    proxy = Proxy(
        evaluator="supernet",
        supernet=Supernet.model_validate({"steps": 6, "batch_size": 8} | supernet),
        train_images=None,
        validation_images=None,
        epochs=1,
        batch_size=8,
        noise_seeds=1,
    )
    return space.with_settings({"proxy": proxy})


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Light and dark noise."""
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    return write_noise_images(tmp_path / "images", {"train": 32, "val": 16, "test": 4})


def training(images: Path, space: SearchSpecification) -> SupernetTraining:
    return SupernetTraining(space, load_source(str(images), seed=0), 0, CPU)


@pytest.mark.parametrize("name", ["v1", "v2", "mixed", "tiny"])
def test_every_candidate_and_baseline_is_a_part_of_the_shared_weights(name: str) -> None:
    space = load_specification(name)
    baselines = [network for _, network in baseline_architectures(space)]
    candidates = [space.sample(seed) for seed in range(12)]
    shared = fresh_weights([*baselines, *candidates], seed=0)
    for candidate in (*baselines[::3], *candidates):
        network = build(candidate, seed=1)
        parts = slices(candidate, network, shared)
        assert {n: p.shape for n, p in parts.items()} == {
            n: p.shape for n, p in network.named_parameters()
        }
        assert len(set(shared_names(candidate, network).values())) == len(parts)
        inherit(candidate, network, shared)
        assert all(torch.equal(p, parts[n]) for n, p in network.named_parameters())


def test_shared_weights_give_the_outputs_of_the_candidates_own_module() -> None:
    space = load_specification("v2")
    candidates = [space.sample(seed) for seed in range(4)]
    shared = fresh_weights(candidates, seed=0)
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for candidate in candidates:
        network = accelerate(build(candidate, seed=1).train(), torch.device("cpu"))
        inherit(candidate, network, shared)
        parts = slices(candidate, network, shared)
        torch.testing.assert_close(forward_with(parts, skeleton(candidate), x), network(x))


def test_only_the_weights_on_a_path_get_a_gradient() -> None:
    space = load_specification("v2")
    small, large = sorted(
        (space.sample(seed) for seed in range(2)), key=lambda a: sum(s.repeats for s in a.stages)
    )
    shared = {k: v.requires_grad_() for k, v in fresh_weights([small, large], seed=0).items()}
    network = skeleton(small)
    parts = slices(small, network, shared)
    forward_with(parts, network, torch.randn(2, 3, 64, 64)).sum().backward()  # type: ignore[no-untyped-call]
    with_gradient = {name for name, weight in shared.items() if weight.grad is not None}
    assert with_gradient == set(shared_names(small, build(small)).values())
    assert with_gradient < set(shared)


def test_only_networks_within_the_shared_weights_are_trained(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their shapes come from some of the candidates: among many more there are wider ones."""
    monkeypatch.setattr(supernet_training, "_SHAPES_FROM", 1)
    space = replace(load_specification("mixed"), settings=tiny(steps=8).settings)
    supernet = training(images, space)
    drawn = [supernet._trained(supernet._candidate()) for _ in range(8)]
    networks = [skeleton(each) for each in drawn]
    held = [
        is_whole(network, slices(each, network, supernet.weights))
        for each, network in zip(drawn, networks, strict=True)
    ]
    assert not all(held), "the test is blind"
    again = training(images, space)
    while not again.done:
        again.step()
    assert all(map(math.isfinite, again.losses))


def test_networks_that_cannot_be_built_are_not_drawn() -> None:
    text = """
name: deep
resolution: {choices: [32, 64]}
num_classes: 2
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, stride: 2, repeats: 1, expansion: 2}
  - {block: inverted_residual, channels: 16, stride: 2, repeats: 1, expansion: 2}
  - {block: inverted_residual, channels: 16, stride: 2, repeats: 1, expansion: 2}
  - {block: inverted_residual, channels: 16, stride: 2, repeats: 1, expansion: 2}
  - {block: inverted_residual, channels: 16, stride: 2, repeats: 1, expansion: 2}
budgets: [20M]
"""
    space = read_specification(parse_document(text, "deep.yaml"))
    drawing = SupernetTraining.__new__(SupernetTraining)
    drawing.space, drawing._baselines, drawing._rng = space, [], Random(0)
    drawing.donor = object()  # type: ignore[assignment]
    assert {drawing._candidate().resolution.side for _ in range(20)} == {64}


def test_weights_beyond_the_shared_ones_stay_fresh() -> None:
    space = load_specification("tiny")
    networks = sorted((space.sample(seed) for seed in range(20)), key=lambda a: a.alpha)
    shared = fresh_weights([networks[0]], seed=0)
    network, fresh = build(networks[-1], seed=1), build(networks[-1], seed=1)
    inherit(networks[-1], network, shared)
    name = "head.conv.conv.weight"
    (part,) = (shared[key] for key in shared if key.startswith(name))
    whole, fresh_whole = network.get_parameter(name), fresh.get_parameter(name)
    rows, columns = part.shape[:2]
    assert columns < whole.shape[1]
    assert torch.equal(whole[:rows, :columns], part)
    assert torch.equal(whole[:, columns:], fresh_whole[:, columns:])


def test_the_proxy_may_train_thinner_networks() -> None:
    network = load_specification("v2").sample(0)
    assert thinner(network, Proxy()) is network
    thin = thinner(network, Proxy(width_scale=0.5))
    assert (thin.alpha, thin.resolution) == (network.alpha / 2, network.resolution)


def test_a_resumed_supernet_equals_an_uninterrupted_one(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_SAVE_EVERY", 10)
    space = tiny(steps=20)
    whole = training(images, space)
    assert prepare(whole, tmp_path / "whole.pt")

    def kill(event: Progress) -> None:
        if event.completed == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(training(images, space), tmp_path / "cut.pt", on_progress=kill)
    resumed = training(images, space)
    assert prepare(resumed, tmp_path / "cut.pt")
    assert resumed.losses == whole.losses
    one, other = (load_shared(tmp_path / f"{name}.pt") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_supernet_stops_at_the_deadline_and_resumes(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not prepare(training(images, tiny()), tmp_path / "x.pt", deadline=0)
    cut = training(images, tiny(steps=100_000))
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", count().__next__)  # a second at each look
        assert not prepare(cut, tmp_path / "x.pt", deadline=10)
    resumed = training(images, tiny(steps=100_000))
    resumed.restore(tmp_path / "x.pt")
    assert resumed.losses == cut.losses != [], "no step is lost"


def test_a_diverged_supernet_raises_an_error(images: Path, tmp_path: Path) -> None:
    diverging = training(images, tiny(steps=50, learning_rate=100, warmup=0))
    for weight in diverging.weights.values():
        weight.data *= 1e38
    with pytest.raises(EvaluationError, match=r"the supernet diverged in step \d+.*learning_rate"):
        prepare(diverging, tmp_path / "x.pt")


def test_damaged_missing_and_foreign_weights_are_one_message(images: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"expected the weights of a supernet, got no such file"):
        load_shared(tmp_path / "none.pt")
    (tmp_path / "damaged.pt").write_bytes(b"x" * 100)
    with pytest.raises(StorageError, match="got a damaged one; delete it"):
        load_shared(tmp_path / "damaged.pt")
    training(images, tiny()).save(tmp_path / "tiny.pt")
    v2 = load_specification("v2")
    other = v2.with_settings({"proxy": tiny().settings.proxy})
    with pytest.raises(
        StorageError, match=r"expected the supernet of this space.* got another one"
    ):
        training(images, other).restore(tmp_path / "tiny.pt")
    with pytest.raises(StorageError, match="the supernet cannot be written"):
        training(images, tiny()).save(tmp_path / "none" / "tiny.pt")


def test_a_trial_starts_from_its_part_of_the_shared_weights(images: Path, tmp_path: Path) -> None:
    space = tiny(steps=250, learning_rate=0.004)
    shared_training = training(images, space)
    assert prepare(shared_training, tmp_path / "shared.pt")
    assert shared_training.loss() < 0.5 < shared_training.losses[0]
    proxy = space.settings.proxy.model_copy(update={"learning_rate": 1e-6})  # it learns nothing
    task = Task(space.sample(3), seed=0)
    outcomes = [
        ProxyTraining(
            proxy.model_copy(update={"evaluator": name}), str(images), device="cpu", shared=shared
        )
        .evaluate(task)
        .evaluation
        for name, shared in (("supernet", tmp_path / "shared.pt"), ("training", None))
    ]
    assert [e.evaluator for e in outcomes] == ["supernet", "training"]
    assert outcomes[0].curve[0].train_loss < 0.6 < outcomes[1].curve[0].train_loss


@pytest.mark.slow
def test_a_run_trains_its_supernet_once(images: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def search(trials: int) -> list[str]:
        with training_in_this_process():
            result = run(
                tiny(),
                trials=trials,
                folder=tmp_path / "study",
                data=str(images),
                jobs=1,
                device="cpu",
                on_progress=lambda event: (
                    seen.append(event.completed) if event.phase == "supernet" else None
                ),
            )
        return [r.evaluation.evaluator for r in result.records if r.evaluation is not None]

    assert search(1) == ["supernet"] * 5
    assert seen == list(range(1, 7))
    assert (tmp_path / "study" / SUPERNET).exists()
    assert search(2) == ["supernet"] * 6
    assert len(seen) == 6
