"""Decorators that compile the kernels, and the cache of their machine code on disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

Stored = NDArray[np.float32] | NDArray[np.uint16]
"""A map of float32, or of bfloat16 as uint16."""
Values = NDArray[np.float32]
Moments = NDArray[np.float64]
Pair = tuple[int, int]
"""Along height and width."""

# Sums may be reordered to use the processor's vectors. NaN stays NaN: a training that diverged must
# show.
_FAST_MATH = {"contract", "reassoc", "nsz"}

_FunctionCache: Any = FunctionCache  # numba has no types
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(kernel: _Function) -> _Function:
    """Compile a kernel on first use, for its arguments' types, and cache it on disk."""
    function: Any = njit(fastmath=_FAST_MATH, error_model="numpy")(kernel)
    with suppress(RuntimeError):  # no cache folder: each process compiles the kernel
        function._cache = _Cache(kernel)
    return cast(_Function, function)


def inner(function: _Function) -> _Function:
    """Compile a function that is inlined into the kernels that call it."""
    part: Any = njit(fastmath=_FAST_MATH, error_model="numpy", forceinline=True)(function)
    return cast(_Function, part)


@cache
def sources_hash() -> str:
    """Return a hash of all source files of this package."""
    digest = blake2b(digest_size=8)
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk, which ignores files that cannot be read or written.

    Numba discards the code when the kernel's own file changes. Kernels consist of functions from
    several files, so this cache discards it when any file of the package changes.
    """

    def __init__(self, kernel: Callable[..., Any]) -> None:
        super().__init__(kernel)
        index = self._cache_file
        index._source_stamp = (index._source_stamp, sources_hash())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # numba raises whatever pickle raises for a damaged file
            with suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(Exception):  # as on a full disk
            super().save_overload(sig, data)
