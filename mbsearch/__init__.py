"""Search for small image networks with the best accuracy for their cost.

MobileNets are trained alongside as references.

    import mbsearch as mb

    space = mb.load("v2.yaml")                       # a SearchSpecification;
    network = space.sample(seed=0)                   # mb.load("mobilenet_v2") is an Architecture
    mb.measure(network.replace(alpha=0.5))           # {"mult_adds": ..., "params": ..., ...}
    module = mb.build(network)                       # a torch.nn.Module
    mb.run(space, trials=20, data="photos/")         # a study in results/v2
    frame = mb.load_results("results/v2")            # a pandas DataFrame, one row a trial

Importing the package does not import torch, pandas and optuna. `mb.CostAwareSampler` is a sampler
for any Optuna study (docs/sampler.md). The package logs to `logging.getLogger("mbsearch")`.
"""

import logging
from typing import TYPE_CHECKING, Any

from mbsearch.api import build, load_results, run
from mbsearch.config.specification import SearchSpecification, load
from mbsearch.cost import measure
from mbsearch.errors import (
    ClusterError,
    DataError,
    EvaluationError,
    ExportError,
    MbsearchError,
    SpecError,
    StorageError,
)
from mbsearch.space.architecture import Architecture
from mbsearch.space.space import SearchSpace

if TYPE_CHECKING:
    from mbsearch.search.sampler.cost_aware import CostAwareSampler

__all__ = [
    "Architecture",
    "ClusterError",
    "CostAwareSampler",
    "DataError",
    "EvaluationError",
    "ExportError",
    "MbsearchError",
    "SearchSpace",
    "SearchSpecification",
    "SpecError",
    "StorageError",
    "build",
    "load",
    "load_results",
    "measure",
    "run",
]


logging.getLogger("mbsearch").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Import `CostAwareSampler` on first access, because optuna triples the import time."""
    if name == "CostAwareSampler":
        from mbsearch.search.sampler.cost_aware import CostAwareSampler

        return CostAwareSampler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
