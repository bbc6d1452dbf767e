"""Choose a small image network by evidence instead of by habit.

    import mbsearch as mb

    space = mb.load("v2.yaml")                       # a SearchSpace; mb.load("mobilenet_v2") is
    network = space.sample(seed=0)                   # an Architecture
    mb.measure(network.replace(alpha=0.5))           # {"mult_adds": ..., "params": ..., ...}
    module = mb.build(network)                       # a torch.nn.Module
    mb.run(space, trials=20, data="photos/")         # a study in results/v2
    frame = mb.load_results("results/v2")            # a pandas DataFrame, one row a trial

torch and pandas are imported by the functions that need them, not by this package.
"""

from mbsearch.api import build, load_results, run
from mbsearch.cost import measure
from mbsearch.errors import (
    DataError,
    EvaluationError,
    ExportError,
    MbsearchError,
    SpecError,
    StorageError,
)
from mbsearch.space.architecture import Architecture
from mbsearch.space.catalog import load
from mbsearch.space.space import SearchSpace

__all__ = [
    "Architecture",
    "DataError",
    "EvaluationError",
    "ExportError",
    "MbsearchError",
    "SearchSpace",
    "SpecError",
    "StorageError",
    "build",
    "load",
    "load_results",
    "measure",
    "run",
]
