from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import weakref
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from striped_images import RECIPE, SMALL, TRAIN, VALIDATION
from torch import Tensor, nn
from torch.nn import functional as F

import mbsearch.training.proxy as proxy_module
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.recipe import Recipe
from mbsearch.config.specification import load_specification
from mbsearch.data.batches import Split
from mbsearch.errors import EvaluationError
from mbsearch.evaluation import by_training
from mbsearch.execution.protocol import Task
from mbsearch.space.architecture import Architecture, Stem
from mbsearch.space.blocks import Standard
from mbsearch.space.size import Size
from mbsearch.study.records import Evaluation
from mbsearch.training import devices as machine
from mbsearch.training.devices import (
    choose_device,
    default_jobs,
    device_name,
    multiplies_bfloat16,
    worker_imports,
)
from mbsearch.training.loop import Training, evaluate, schedule
from mbsearch.training.network import build
from mbsearch.training.proxy import ProxyTraining

CPU = torch.device("cpu")
PROXY = Proxy(epochs=2, train_images=200, validation_images=100)


def training(recipe: Recipe = RECIPE, seed: int = 0, train: Split = TRAIN) -> Training:
    network = build(SMALL, num_classes=4, zero_init_residual=True, seed=seed)
    return Training(network, recipe, train, VALIDATION, CPU, seed, flip=False)


def result(trained: Training) -> tuple[list[tuple[float, float, float]], dict[str, Tensor]]:
    curve = [(e.train_loss, e.validation_loss, e.validation_accuracy) for e in trained.curve]
    return curve, trained.network.state_dict()


def assert_same(one: Training, other: Training) -> None:
    (curve, weights), (other_curve, other_weights) = result(one), result(other)
    assert curve == other_curve
    assert all(torch.equal(weights[key], other_weights[key]) for key in weights)


def test_a_short_training_learns() -> None:
    trained = training(RECIPE.model_copy(update={"batch_size": 8}))
    epochs = [trained.run_epoch() for _ in range(4)]
    assert epochs[-1].validation_accuracy > 0.8
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert all(e.seconds > 0 for e in epochs)
    assert trained.curve == epochs


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_training_equals_an_uninterrupted_one(optimizer: str) -> None:
    recipe = RECIPE.model_copy(update={"optimizer": optimizer, "learning_rate": 0.01})
    at_once, first = training(recipe), training(recipe)
    for _ in range(4):
        at_once.run_epoch()
    for _ in range(2):
        first.run_epoch()
    second = training(recipe, seed=5)  # whatever it starts from, the checkpoint replaces
    second.restore(first.checkpoint())
    for _ in range(2):
        second.run_epoch()
    assert_same(at_once, second)
    assert second.curve[:2] == first.curve


def test_the_seed_decides_everything() -> None:
    one, same, other = training(seed=1), training(seed=1), training(seed=2)
    for each in (one, same, other):
        each.run_epoch()
    assert_same(one, same)
    assert result(one)[0] != result(other)[0]


def test_only_weights_decay() -> None:
    """After one step from the same weights, parameters without decay are equal."""
    once = RECIPE.model_copy(update={"epochs": 1, "batch_size": len(TRAIN)})
    plain, decayed = (
        training(once.model_copy(update={"weight_decay": decay, "learning_rate": 0.01}))
        for decay in (0.0, 5.0)
    )
    plain.run_epoch()
    decayed.run_epoch()
    other = dict(decayed.network.named_parameters())
    for name, parameter in plain.network.named_parameters():
        is_weight = parameter.ndim > 1
        assert torch.equal(parameter, other[name]) != is_weight, name


def test_the_learning_rate_has_a_linear_warmup_and_a_cosine_decay() -> None:
    rates = [schedule(step, 100, 0.2) for step in range(100)]
    assert rates[:20] == pytest.approx([(i + 1) / 20 for i in range(20)])
    assert rates[20] == 1
    assert rates[60] == pytest.approx(0.5)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert schedule(0, 1, 0.0) == 1, "a training of one step has to learn something"


def processor(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512_bf16: bool = False, name: str = "znver2"
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(machine, "_processor", lambda: name)


def test_bfloat16_is_used_on_processors_with_faster_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = [(True, True, "sapphirerapids"), (False, True, "znver5")]
    slow = [(False, True, "emeraldrapids"), (False, False, "znver3")]
    for known in fast + slow:
        processor(monkeypatch, *known)
        assert multiplies_bfloat16(CPU) == (known in fast)
    # A card before Ampere emulates it, which is not meant here.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert not multiplies_bfloat16(torch.device("cuda"))


@pytest.mark.parametrize(("bfloat16", "loss_error", "images"), [(False, 1e-5, 0), (True, 0.01, 1)])
def test_scores_are_those_of_the_plain_network(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, loss_error: float, images: int
) -> None:
    trained = training()
    trained.run_epoch()
    processor(monkeypatch, amx=bfloat16)
    loss, accuracy = evaluate(trained.network, VALIDATION, CPU)
    x = (VALIDATION.images / 255 - 0.4) / 0.2
    with torch.inference_mode():
        logits = trained.network.eval()(x)
    expected = F.cross_entropy(logits, VALIDATION.labels).item()
    assert loss == pytest.approx(expected, rel=loss_error)
    right = (logits.argmax(1) == VALIDATION.labels).sum().item()
    assert accuracy * len(VALIDATION) == pytest.approx(right, abs=images + 1e-6)


def test_training_in_bfloat16_is_recorded_in_the_device_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = {}
    for bfloat16 in (False, True):
        processor(monkeypatch, amx=bfloat16)
        assert ("bfloat16" in device_name(CPU)) == bfloat16
        trained = training()
        losses[bfloat16] = trained.run_epoch().train_loss
        assert all(p.dtype == torch.float32 for p in trained.network.parameters())
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.05)


def test_a_last_batch_of_one_image_is_not_trained_on() -> None:
    """It would have no batch statistics on a map of one pixel."""
    odd = replace(TRAIN, images=TRAIN.images[:65], labels=TRAIN.labels[:65])
    assert training(train=odd).run_epoch().train_loss > 0


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    poisoned = training()
    poisoned.run_epoch()
    nn.init.constant_(poisoned.network.get_parameter("head.classifier.weight"), float("inf"))
    with pytest.raises(EvaluationError, match=r"diverged in epoch 2: the loss is (nan|inf)"):
        poisoned.run_epoch()


def test_a_validation_loss_that_is_not_finite_ends_the_training() -> None:
    poisoned = training()
    norm = poisoned.network.get_submodule("stem.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.momentum = 0.0
    assert norm.running_mean is not None
    nn.init.constant_(norm.running_mean, float("nan"))
    with pytest.raises(EvaluationError, match="in epoch 1: the validation loss is nan"):
        poisoned.run_epoch()


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path_factory.getbasetemp() / "images"))


def numbers(evaluation: Evaluation) -> tuple[object, ...]:
    """All numbers of an evaluation except the seconds."""
    points = [(e.train_loss, e.validation_loss, e.validation_accuracy) for e in evaluation.curve]
    return evaluation.accuracy, evaluation.validation_loss, evaluation.seed, points


def test_proxy_training_gives_the_same_numbers_for_the_same_task() -> None:
    evaluator: ProxyTraining = pickle.loads(pickle.dumps(ProxyTraining(PROXY, "embedded")))
    one, same, other = (evaluator.evaluate(Task(SMALL, seed)).evaluation for seed in (3, 3, 4))
    assert numbers(one) == numbers(same)
    assert numbers(one) != numbers(other)


def test_an_evaluation_records_its_recipe_device_and_versions() -> None:
    outcome = ProxyTraining(PROXY, "embedded", device="cpu").evaluate(Task(SMALL, 3))
    evaluation = outcome.evaluation
    assert outcome.checkpoint is None
    assert evaluation.pixels == Size.square(16)
    assert evaluation.accuracy == evaluation.curve[-1].validation_accuracy
    assert evaluation.seconds == pytest.approx(sum(e.seconds for e in evaluation.curve))
    assert evaluation.recipe == PROXY.model_dump(mode="json")
    assert evaluation.device.startswith("cpu")
    assert evaluation.versions["torch"] == torch.__version__.partition("+")[0]
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation


def test_rungs_add_up_to_the_whole_schedule() -> None:
    evaluator = ProxyTraining(PROXY, "embedded")
    whole = evaluator.evaluate(Task(SMALL, 0))
    first = evaluator.evaluate(Task(SMALL, 0, stop_epoch=1))
    assert first.checkpoint is not None
    assert len(first.evaluation.curve) == 1
    second = evaluator.evaluate(Task(SMALL, 0, checkpoint=first.checkpoint))
    assert numbers(second.evaluation) == numbers(whole.evaluation)
    assert second.checkpoint is None


def test_a_network_too_large_for_the_memory_is_an_evaluation_error() -> None:
    wide = Standard(block="standard", channels=65_536, kernel=31, repeats=2)  # 17 terabytes
    huge = Architecture(name="huge", stem=Stem(channels=8), stages=(wide,))
    with pytest.raises(EvaluationError, match="out of memory while training huge at resolution"):
        ProxyTraining(PROXY, "embedded").evaluate(Task(huge, 0))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), MemoryError()]
)
def test_every_kind_of_full_memory_is_an_evaluation_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "run_epoch", lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(EvaluationError, match="out of memory"):
        ProxyTraining(PROXY, "embedded").evaluate(Task(SMALL, 0))


def test_a_training_is_freed_without_the_garbage_collector() -> None:
    """Workers train hundreds of networks; memory until the next collection would add up."""
    pixels = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    split = Split(pixels, torch.arange(8) % 2, (0.5,) * 3, (0.2,) * 3, 2)
    training = Training(build(SMALL), PROXY, split, split, CPU, 0, flip=False)
    training.run_epoch()
    gone = weakref.ref(training)
    gc.disable()
    try:
        del training
        assert gone() is None
    finally:
        gc.enable()


def test_other_runtime_errors_are_not_reported_as_full_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object, **__: object) -> nn.Module:
        raise RuntimeError("a defect")

    monkeypatch.setattr(proxy_module, "build", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        ProxyTraining(PROXY, "embedded").evaluate(Task(SMALL, 0))


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_an_unknown_device_is_an_evaluation_error(name: str) -> None:
    with pytest.raises(EvaluationError, match=f"got '{name}'"):
        choose_device(name)


def test_a_few_workers_share_a_gpu_and_each_core_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, on_gpu in ((2, 2), (16, 4)):
        monkeypatch.setattr("mbsearch.training.devices.usable_cores", lambda cores=cores: cores)
        assert default_jobs(CPU) == cores
        assert default_jobs(torch.device("cuda")) == on_gpu


def test_worker_imports_exist_and_are_empty_for_a_gpu() -> None:
    """The fork server ignores a missing module silently."""
    assert worker_imports(torch.device("cuda")) == ()
    assert all(find_spec(module) for module in worker_imports(CPU))


def test_the_head_of_a_cluster_needs_no_device_of_its_workers(tmp_path: Path) -> None:
    scoring = by_training(load_specification("tiny"), "embedded", 0, "cuda:99", tmp_path)
    with pytest.raises(EvaluationError, match="got 'cuda:99'"):
        scoring.jobs()


@pytest.mark.skipif(os.environ.get("MBSEARCH_ACCEL") == "0", reason="torch's optimizers import it")
def test_training_does_not_import_the_compiler_of_torch() -> None:
    """Nor do workers import what only the driver needs."""
    code = (
        "import importlib, sys, torch\n"
        "import mbsearch as mb\n"
        "from mbsearch.training.devices import worker_imports\n"
        "from mbsearch.training.proxy import ProxyTraining\n"
        "from mbsearch.config.proxy_settings import Proxy\n"
        "from mbsearch.execution.protocol import Task\n"
        "for module in worker_imports(torch.device('cpu')):\n"
        "    importlib.import_module(module)\n"
        "network = mb.load('mobilenet_v2').replace(resolution=64, num_classes=10)\n"
        "for optimizer in ('adamw', 'sgd'):\n"
        "    proxy = Proxy(epochs=2, train_images=64, validation_images=32, optimizer=optimizer)\n"
        "    ProxyTraining(proxy, 'embedded').evaluate(Task(network, 0))\n"
        "heavy = {'dash', 'optuna', 'pandas', 'plotly', 'scipy.stats', 'torch._dynamo'}\n"
        "print(heavy & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux shows them")
def test_a_worker_has_one_thread() -> None:
    """Also in matrix products of the kernels."""
    code = (
        "import os, torch\n"
        "from numba import njit\n"
        "from threadpoolctl import threadpool_info\n"
        "from mbsearch.accel.kernels.products import multiply\n"
        "from mbsearch.training.devices import prepare_worker\n"
        "multiplied = njit(lambda y, weight, z: multiply(y, weight, z))\n"
        "y, weight, z = (torch.ones(1024, 1024).numpy() for _ in range(3))\n"
        "multiplied(y[:1], weight, z[:1])\n"
        "torch.set_num_threads(2)\n"
        "prepare_worker()\n"
        "before = set(os.listdir('/proc/self/task'))\n"
        "multiplied(y, weight, z)\n"
        "more = set(os.listdir('/proc/self/task')) - before\n"
        "print(torch.get_num_threads(), len(more), z[0, 0])\n"
        "print({pool['num_threads'] for pool in threadpool_info()})"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env=environment,
    )
    assert out.stdout.split() == ["1", "0", "1024.0", "{1}"]
