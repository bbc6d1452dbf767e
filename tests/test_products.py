from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch
from llvmlite.binding import get_host_cpu_features
from numba import njit

from mbsearch.accel.kernels import products
from mbsearch.accel.kernels.jit import Values
from mbsearch.accel.kernels.passes import read_values
from mbsearch.accel.kernels.products import add_weight_gradient, multiply, multiply_backward


def in_a_kernel(y: Values, weight: Values, z: Values, y_grad: Values, weight_grad: Values) -> None:
    multiply(y, weight, z)
    multiply_backward(z, weight, y_grad)
    add_weight_gradient(z, y, weight_grad)


compiled: Any = njit(in_a_kernel)  # numba has no type for a compiled function


@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (100, 7, 13), (3, 200, 1), (64, 1, 96)])
def test_products_are_those_of_double_precision(m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(0)
    y, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k)))
    z, y_grad = np.full((m, n), np.nan, np.float32), np.full((m, k), np.nan, np.float32)
    weight_grad = np.ones((n, k), np.float32)  # it is added to
    compiled(y, weight, z, y_grad, weight_grad)
    wide = z.astype(float)
    assert np.allclose(z, y.astype(float) @ weight.T, rtol=1e-5, atol=1e-5)
    assert np.allclose(y_grad, wide @ weight, rtol=1e-4, atol=1e-4)
    assert np.allclose(weight_grad, 1 + wide.T @ y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("found", [products.torch_sgemm, products.scipy_sgemm])
def test_both_libraries_multiply(found: object) -> None:
    assert callable(found)
    sgemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(found())
    a, b, c = (ctypes.c_float(value) for value in (2, 3, 5))
    one, flag = ctypes.c_int(1), ctypes.c_char(b"N")
    sides, factor = [ctypes.byref(one)] * 3, ctypes.c_float(1)
    matrices = [pointer for each in (a, b) for pointer in (ctypes.byref(each), ctypes.byref(one))]
    flags = [ctypes.byref(flag)] * 2
    rest = [ctypes.byref(factor), ctypes.byref(c), ctypes.byref(one)]
    addresses = [ctypes.cast(p, ctypes.c_void_p) for p in (*flags, *sides, ctypes.byref(factor))]
    sgemm(*addresses, *[ctypes.cast(p, ctypes.c_void_p) for p in (*matrices, *rest)])
    assert c.value == 2 * 3 + 5


def test_scipys_product_is_used_if_torchs_is_not_exported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed() -> int:
        raise AttributeError("sgemm_")

    assert products.sgemm_address() == products.torch_sgemm()
    monkeypatch.setattr(products, "torch_sgemm", closed)
    assert products.sgemm_address() == products.scipy_sgemm()


@pytest.mark.skipif(
    not get_host_cpu_features().get("avx512f"), reason="a processor without such vectors"
)
def test_kernels_use_full_vectors() -> None:
    def seen(x: Values, terms: Values, y: Values) -> None:
        read_values(x, 0, len(x), terms, y, 0)

    x = torch.zeros(1000).numpy()
    compiled_seen: Any = njit(seen)
    compiled_seen(x, np.zeros((6, 200), np.float32), x.copy())
    assert any("zmm" in code for code in compiled_seen.inspect_asm().values())
