"""Matrix products inside kernels, by torch's BLAS library.

On the narrow matrices of small networks it is up to twice as fast as the library that Numba calls
(docs/throughput.md).
"""

from __future__ import annotations

import ctypes
from importlib import import_module
from typing import Any

import numpy as np
import torch
from llvmlite import binding
from numba import types

from mbsearch.accel.kernels.jit import Values, inner

_N, _T = ord("N"), ord("T")


def torch_sgemm() -> int:
    """Return the address of the sgemm function in torch's BLAS library.

    Raises:
        AttributeError: torch does not export it, as on Windows.
    """
    library = ctypes.CDLL(torch._C.__file__)  # libraries that it is linked with are searched too
    return _address(library.sgemm_)


def scipy_sgemm() -> int:
    """Return the address of the sgemm function in SciPy's public Cython BLAS interface."""
    capsule = import_module("scipy.linalg.cython_blas").__pyx_capi__["sgemm"]
    name = ctypes.pythonapi.PyCapsule_GetName
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    name.argtypes, name.restype = [ctypes.py_object], ctypes.c_char_p
    pointer.argtypes, pointer.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return int(pointer(capsule, name(capsule)))


def _address(function: object) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert address is not None
    return address


def sgemm_address() -> int:
    """Return the address of torch's sgemm, or of SciPy's if torch does not export it."""
    try:
        return torch_sgemm()
    except (AttributeError, OSError):
        return scipy_sgemm()


# Cached kernels refer to the name; each process resolves it to its own address.
binding.add_symbol("mbsearch_sgemm", sgemm_address())
_sgemm: Any = types.ExternalFunction("mbsearch_sgemm", types.void(*[types.voidptr] * 13))


@inner
def _multiply(
    flag_a: int,
    flag_b: int,
    sides: tuple[int, int, int],
    a: Values,
    b: Values,
    fresh: bool,
    c: Values,
) -> None:
    """Write the product of two matrices to `c` if `fresh`, else add it to `c`, by sgemm.

    BLAS's matrices are column-major, so the factors of the product are swapped. Matrices are
    contiguous: the leading dimensions are the lengths of their rows.
    """
    flags = np.array([flag_a, flag_b], np.uint8)
    sizes = np.array([*sides, a.shape[1], b.shape[1], c.shape[1]], np.int32)
    factors = np.array([1, 0 if fresh else 1], np.float32)
    _sgemm(
        flags.ctypes,
        flags[1:].ctypes,
        sizes.ctypes,
        sizes[1:].ctypes,
        sizes[2:].ctypes,
        factors.ctypes,
        a.ctypes,
        sizes[3:].ctypes,
        b.ctypes,
        sizes[4:].ctypes,
        factors[1:].ctypes,
        c.ctypes,
        sizes[5:].ctypes,
    )


@inner
def multiply(y: Values, weight: Values, z: Values) -> None:
    """Write ``y @ weight.T`` to z, for y (M, K) and weight (N, K)."""
    _multiply(_T, _N, (len(weight), len(y), y.shape[1]), weight, y, True, z)


@inner
def multiply_backward(z_grad: Values, weight: Values, y_grad: Values) -> None:
    """Write ``z_grad @ weight`` to y_grad, for z_grad (M, N) and weight (N, K)."""
    _multiply(_N, _N, (weight.shape[1], len(z_grad), len(weight)), weight, z_grad, True, y_grad)


@inner
def add_weight_gradient(z_grad: Values, y: Values, weight_grad: Values) -> None:
    """Add ``z_grad.T @ y`` to weight_grad, for z_grad (M, N) and y (M, K)."""
    sides = y.shape[1], z_grad.shape[1], len(y)
    _multiply(_N, _T, sides, y, z_grad, False, weight_grad)
