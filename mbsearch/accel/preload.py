"""Imports of a worker process that trains: all modules that acceleration needs on a CPU."""

from mbsearch.accel import fusion
from mbsearch.accel.kernels import images

__all__ = ["fusion", "images"]
