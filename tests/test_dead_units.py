"""Dead depthwise kernels and silent channels of trained networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mbsearch.config.families import scaled_reference
from mbsearch.config.proxy_settings import Proxy
from mbsearch.dashboard.pages.network import training
from mbsearch.data.sources import ImageSource
from mbsearch.execution.protocol import Task
from mbsearch.space.layers import Conv
from mbsearch.space.size import Size
from mbsearch.study.records import DeadUnits, Evaluation, TrialRecord
from mbsearch.training.dead_units import dead_units
from mbsearch.training.loop import place
from mbsearch.training.network import build
from mbsearch.training.proxy import ProxyTraining

CPU = torch.device("cpu")
ARCHITECTURE = scaled_reference("mobilenet_v2", 0.1, 32, num_classes=2)


def network(name: str = "mobilenet_v2") -> nn.Module:
    return build(scaled_reference(name, 0.1, 32, num_classes=2), seed=0)


def layer(net: nn.Module, name: str) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv, norm = (net.get_submodule(f"{name}.{part}") for part in ("conv", "norm"))
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return conv, norm


def found(net: nn.Module, source: ImageSource) -> DeadUnits:
    return dead_units(net, source.split("validation", 32), CPU)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_random_networks_have_no_dead_kernels(name: str, source: ImageSource) -> None:
    assert found(network(name), source).kernels == 0


def test_small_kernels_are_counted(source: ImageSource) -> None:
    net = network()
    kernels = sum(
        m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups > 1
    )
    conv, _ = layer(net, "stages.1.0.depthwise")
    with torch.no_grad():
        conv.weight[:3] *= 1e-3
    assert found(net, source).kernels == pytest.approx(3 / kernels)


@pytest.mark.parametrize("accelerated", [False, True])
def test_channels_without_a_positive_value_are_counted(
    accelerated: bool, source: ImageSource
) -> None:
    net = place(network(), CPU) if accelerated else network()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # all channels positive
            nn.init.constant_(module.weight, 0)
            nn.init.constant_(module.bias, 1)
    assert found(net, source).channels == 0
    _, norm = layer(net, "stages.1.0.expansion")
    channels = sum(
        placed.layer.channels
        for placed in ARCHITECTURE.layers()
        if isinstance(placed.layer, Conv) and placed.layer.activation is not None
    )
    with torch.no_grad():
        norm.bias[:2] = -1
    assert found(net, source).channels == pytest.approx(2 / channels)


def test_the_network_is_not_changed(source: ImageSource) -> None:
    net = network()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found(net, source)
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())


def test_a_network_without_depthwise_convolutions_has_no_share_of_kernels(
    source: ImageSource,
) -> None:
    assert found(network("conv_mobilenet_v1"), source).kernels is None


def test_completed_trainings_have_dead_units_and_interrupted_ones_have_none(images: str) -> None:
    proxy = Proxy(epochs=2, train_images=None, validation_images=None, batch_size=10)
    evaluator = ProxyTraining(proxy, images, device="cpu")
    task = Task(scaled_reference("mobilenet_v2", 0.1, 64), seed=0, stop_epoch=1)
    first = evaluator.evaluate(task)
    assert first.evaluation.dead is None
    last = evaluator.evaluate(replace(task, stop_epoch=None, checkpoint=first.checkpoint))
    assert (
        last.evaluation.dead == evaluator.evaluate(replace(task, stop_epoch=None)).evaluation.dead
    )
    assert last.evaluation.dead is not None
    assert (
        Evaluation.from_dict(json.loads(json.dumps(last.evaluation.to_dict()))) == last.evaluation
    )


def test_evaluations_of_older_studies_have_none() -> None:
    data = Evaluation(0.5, 1.0, 1.0, 0, Size.square(32), (), "training", {}, "cpu").to_dict()
    del data["dead"]
    assert Evaluation.from_dict(data).dead is None


def test_the_network_page_shows_the_dead_units(study: tuple[Path, list[TrialRecord]]) -> None:
    record = study[1][-1]
    assert record.evaluation is not None
    assert not any("dead" in name for name in training(record))
    dead = replace(record.evaluation, dead=DeadUnits(0.0123, 0.2))
    facts = training(replace(record, evaluation=dead))
    assert facts["dead depthwise kernels"] == "1.2 %"
    assert facts["silent channels"] == "20.0 %"
    unknown = replace(dead, dead=DeadUnits(None, 0.0))
    assert "dead depthwise kernels" not in training(replace(record, evaluation=unknown))
