"""The face of `mbsearch.accel`: what is replaced, what stays, and how it is turned off."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mbsearch
from mbsearch.accel import accelerate, optimizer, step_runner
from mbsearch.config.recipe import Recipe
from mbsearch.space.library import load_reference
from mbsearch.training.loop import decay_groups
from mbsearch.training.network import build

CPU = torch.device("cpu")
TRAINING_TESTS = (
    "test_training.py",
    "test_supernet.py::test_a_resumed_supernet_equals_an_uninterrupted_one",
    "test_supernet.py::test_shared_weights_give_the_outputs_of_the_candidates_own_module",
)


def network() -> nn.Module:
    return build(load_reference("mobilenet_v3_small").replace(alpha=0.25), num_classes=5)


def classes(module: nn.Module) -> set[str]:
    return {type(each).__module__ for each in module.modules()}


def test_parameters_and_their_names_stay_the_same() -> None:
    plain = network()
    before = copy.deepcopy(plain.state_dict())
    fused = accelerate(plain, CPU)
    assert fused is plain
    assert "mbsearch.accel.depthwise" in classes(fused)
    assert list(fused.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in fused.state_dict().items())


def test_an_accelerated_network_can_be_copied_and_pickled() -> None:
    fused, x = accelerate(network(), CPU).train(), torch.randn(4, 3, 32, 32)
    copies = [copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))]
    expected = fused(x)
    for each in copies:
        assert classes(each) == classes(fused)
        assert torch.equal(each(x), expected)


def test_accelerating_twice_changes_nothing() -> None:
    once = accelerate(network(), CPU)
    assert classes(accelerate(copy.deepcopy(once), CPU)) == classes(once)


def test_layers_that_no_kernel_computes_stay_plain() -> None:
    convolutions = [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, padding_mode="circular"),
    ]
    assert all(type(accelerate(each, CPU)) is nn.Conv2d for each in convolutions)
    assert type(accelerate(nn.Conv2d(4, 8, 1, bias=False), CPU)) is not nn.Conv2d


def test_other_devices_and_mbsearch_accel_0_leave_the_network_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = classes(network())
    assert classes(accelerate(network(), torch.device("mps"))) == plain
    monkeypatch.setenv("MBSEARCH_ACCEL", "0")
    for device in (CPU, torch.device("cuda")):
        assert classes(accelerate(network(), device)) == plain
    groups = decay_groups(network().parameters(), 0.1)
    assert type(optimizer(groups, Recipe(), CPU)) is torch.optim.AdamW
    steps = step_runner(torch.device("cuda"), constant=True)
    assert steps(lambda x: 2 * x, torch.ones(1)) == 2


def test_one_file_of_training_one_of_data_and_the_cache_command_import_the_package() -> None:
    importing = re.compile(r"^\s*(from mbsearch import accel|(from|import) mbsearch\.accel)", re.M)
    package = Path(mbsearch.__file__).parent
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if package / "accel" not in file.parents and importing.search(file.read_text())
    }
    assert found == {"cli/cache.py", "data/batches.py", "training/loop.py"}


@pytest.mark.slow
def test_training_tests_pass_without_acceleration() -> None:
    tests = [str(Path(__file__).parent / test) for test in TRAINING_TESTS]
    options = ["-q", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider", "-k", "not thread"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        env=os.environ | {"MBSEARCH_ACCEL": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
