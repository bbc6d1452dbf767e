"""Have Numba import all its types, for a second; the fork server of the tests does it once."""

from typing import Any

from numba import njit

_compiled: Any = njit(lambda: None)
_compiled()
