"""Import all modules that acceleration needs in a worker process on a CPU."""

from mbsearch.accel import fusion
from mbsearch.accel.kernels import images

__all__ = ["fusion", "images"]
