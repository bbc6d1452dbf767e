"""Fit a study's latency model to networks of its space measured on this machine."""

from __future__ import annotations

import logging
import platform
from importlib.metadata import version
from pathlib import Path

from mbsearch.config.specification import SearchSpecification
from mbsearch.config.survey import sample_by_cost
from mbsearch.errors import ExportError
from mbsearch.export.formats import require
from mbsearch.latency.benchmark import measure_latency
from mbsearch.latency.model import LatencyModel
from mbsearch.search.references import references_to_measure
from mbsearch.study.latency_setting import LatencySetting

NETWORKS = 30
_THREADS = 1
_CPUS = Path("/proc/cpuinfo")

_LOGGER = logging.getLogger(__name__)


def fit_latency(space: SearchSpecification, seed: int, networks: int = NETWORKS) -> LatencyModel:
    """Measure references and a sample of networks over the cost range; return a fitted model.

    The engine is onnxruntime if it is installed, else torch, on one thread.

    Args:
        seed: seed of the sample.
        networks: number of networks of the space to measure.

    Raises:
        SpecError: the space has too few networks within its limits.
    """
    try:
        require(["onnx"])
        engine = "onnxruntime"
    except ExportError:
        engine = "torch"
    chosen = sample_by_cost(space, networks, seed)
    chosen += references_to_measure(space)
    _LOGGER.info(
        f"measuring the latency of {len(chosen)} networks by {engine}, once for this study"
    )
    found = measure_latency(chosen, engine=engine, threads=_THREADS)
    versions = {name: version(name) for name in dict.fromkeys((engine, "torch"))}
    setting = LatencySetting(engine, _THREADS, _processor(), versions)
    model = LatencyModel.fit(chosen, [1e6 * each.median_seconds for each in found], setting)
    _LOGGER.info(model.sentence())
    return model


def _processor() -> str:
    """Return the processor's name, or its architecture if the system has no name."""
    if _CPUS.exists():
        for line in _CPUS.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
