from __future__ import annotations

import copy
import importlib.util
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numba.core.caching import FunctionCache
from numpy.typing import NDArray
from torch import Tensor, nn

from mbsearch.accel.kernels.jit import compiled
from mbsearch.accel.norm import normalize

pytestmark = pytest.mark.usefixtures("one_thread")

ACTIVATIONS = [nn.Identity(), nn.ReLU(), nn.ReLU6()]
# Maps whose pixels make one row or many, of few channels and of more than a row holds.
SHAPES = [(64, 8, 4, 4), (3, 5, 7, 3), (16, 24, 1, 1), (2, 130, 2, 2), (1, 1, 3, 3)]


def layer(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        norm.weight.normal_(1, 0.5, generator=generator)
        norm.bias.normal_(1, 1, generator=generator)
    return norm


def image(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    x = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(2)) + 1.5
    return x.to(memory_format=torch.channels_last).to(dtype).requires_grad_()


def gradients(y: Tensor, *of: Tensor) -> tuple[Tensor, ...]:
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    return torch.autograd.grad(y, of, grad.to(y.dtype))


def is_ours(y: Tensor) -> bool:
    return "NormalizeAndClip" in str(y.grad_fn)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_outputs_gradients_and_statistics_are_those_of_torch(activation: nn.Module) -> None:
    for shape in SHAPES:
        norm, x = layer(shape[1]), image(shape)
        torchs = copy.deepcopy(norm).double()
        x64 = x.detach().double().requires_grad_()
        expected, got = activation(torchs(x64)), normalize(x, norm, activation)
        assert is_ours(got)
        assert torch.allclose(got.double(), expected, rtol=1e-5, atol=1e-5)
        pairs = zip(
            gradients(got, x, norm.weight, norm.bias),
            gradients(expected, x64, torchs.weight, torchs.bias),
            strict=True,
        )
        for ours, theirs in pairs:
            assert torch.allclose(ours.double(), theirs, rtol=1e-4, atol=1e-4), shape
        for name, value in torchs.state_dict().items():
            assert torch.allclose(norm.state_dict()[name].double(), value.double(), rtol=1e-5), name


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
def test_bfloat16_differs_by_its_rounding_only(activation: nn.Module) -> None:
    """Outputs and gradients are those of float32, rounded."""
    for shape in SHAPES:
        norm, x = layer(shape[1]), image(shape, torch.bfloat16)
        wide, x32 = copy.deepcopy(norm), x.detach().float().requires_grad_()
        got, expected = normalize(x, norm, activation), normalize(x32, wide, activation)
        assert got.dtype == torch.bfloat16
        assert torch.equal(got, expected.bfloat16())
        ours, theirs = gradients(got, x), gradients(expected, x32)
        # Both round the gradient that comes in; what goes out is rounded once more.
        assert torch.allclose(ours[0].float(), theirs[0], rtol=2**-6, atol=0.02), shape


def test_a_variance_far_below_the_squared_mean_is_accurate() -> None:
    norm, x = layer(4), (1000 + 0.01 * torch.randn(64, 4, 8, 8)).requires_grad_()
    expected = copy.deepcopy(norm).double()(x.double())
    assert torch.allclose(normalize(x, norm, nn.Identity()).double(), expected, atol=0.02)


def test_both_memory_formats_give_the_same_result() -> None:
    norm, x = layer(6), image((4, 6, 5, 5))
    last = normalize(x, copy.deepcopy(norm), nn.ReLU6())
    first = normalize(x.detach().contiguous().requires_grad_(), norm, nn.ReLU6())
    assert torch.equal(first, last)


def test_nan_is_propagated() -> None:
    x = image((4, 8, 2, 2)).detach().clone()
    x[0, 3, 0, 0] = math.nan
    y = normalize(x.requires_grad_(), layer(8), nn.ReLU6())
    assert y[:, 3].isnan().all()
    assert not y[:, :3].isnan().any()


def test_unsupported_layers_and_inputs_use_torch() -> None:
    x, norm = image((4, 8, 2, 2)), layer(8)
    assert is_ours(normalize(x, norm, nn.ReLU6()))
    assert not is_ours(normalize(x, norm, nn.Hardswish()))
    assert not is_ours(normalize(x, nn.Identity(), nn.ReLU6()))
    assert not is_ours(normalize(x, copy.deepcopy(norm).eval(), nn.ReLU6()))
    assert not is_ours(normalize(x.double(), copy.deepcopy(norm).double(), nn.ReLU6()))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalize(image((1, 8, 1, 1)), norm, nn.ReLU6())


def test_bfloat16_is_converted_and_rounded_as_by_torch() -> None:
    """With a layer that changes little (mean 0, variance 1), for numbers of all sizes."""
    exponents = torch.arange(-8.0, 8.0)
    values = torch.cat([sign * 2**exponents * (1 + step / 64) for sign, step in _kinds()])
    x = values.reshape(-1, 1, 1, 1).bfloat16()
    norm = nn.BatchNorm2d(1)
    y = normalize(x, norm, nn.Identity())
    expected = copy.deepcopy(norm).double()(x.double())
    assert torch.allclose(y.double(), expected, rtol=2**-8)


def _kinds() -> list[tuple[int, int]]:
    return list(itertools.product((-1, 1), range(64)))


def loaded(file: Path) -> Callable[[NDArray[np.float32]], None]:
    """Return the kernel of a file, loaded as in a new process."""
    spec = importlib.util.spec_from_file_location("made", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    doubled: Callable[[NDArray[np.float32]], None] = module.doubled
    return doubled


def test_an_unusable_kernel_cache_does_not_fail_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "made.py"
    file.write_text(
        "from mbsearch.accel.kernels.jit import compiled\n\n\n"
        "@compiled\ndef doubled(x):\n    for i in range(x.size):\n        x[i] *= 2\n"
    )
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "kept"))

    def works() -> bool:
        x = np.ones(3, dtype=np.float32)
        loaded(file)(x)
        return x.tolist() == [2, 2, 2]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(FunctionCache, "save_overload", full)
        assert works()
    assert not list(tmp_path.rglob("*.nbi"))
    assert works()
    for kind in ("nbi", "nbc"):
        (damaged,) = tmp_path.rglob(f"*.{kind}")
        damaged.write_bytes(damaged.read_bytes()[:20])
        assert works()
        assert works(), "and it is kept again"


def test_torch_normalizes_on_three_threads() -> None:
    torch.set_num_threads(3)
    assert not is_ours(normalize(image((4, 8, 2, 2)), layer(8), nn.ReLU6()))


def test_a_kernel_is_compiled_without_a_cache_folder() -> None:
    scope: dict[str, object] = {}
    exec("def first(x):\n    x[0] = 1", scope)  # a function of no file
    x = torch.zeros(2).numpy()
    compiled(scope["first"])(x)  # type: ignore[type-var, operator]
    assert x.tolist() == [1, 0]
