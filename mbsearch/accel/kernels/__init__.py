"""CPU kernels, written in Python and compiled by Numba.

Importing this package sets Numba's CPU features, which Numba reads when it decorates its first
function. For Intel processors LLVM uses vectors of half the width by default, to keep a higher
clock rate. Full vectors save 5 % of a training step (docs/throughput.md). Features that the user
has set (NUMBA_CPU_FEATURES) are kept.
"""

from __future__ import annotations

from typing import Any

from llvmlite.binding import get_host_cpu_features
from numba import config

_config: Any = config  # numba has no types
_features = get_host_cpu_features()
if _features.get("avx512f") and _config.CPU_FEATURES is None:
    _config.CPU_FEATURES = f"{_features.flatten()},-prefer-256-bit"
