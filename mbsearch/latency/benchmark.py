"""Measure the latency of networks on this machine with onnxruntime and torch."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from mbsearch.analysis.kendall import kendall_tau
from mbsearch.cost import measure
from mbsearch.errors import ExportError, did_you_mean
from mbsearch.execution.capacity import usable_cores
from mbsearch.export.exportable import Exportable
from mbsearch.export.formats import require
from mbsearch.export.graphs import ONNX, onnx_session, write_onnx
from mbsearch.progress import OnProgress, Progress, ignore_progress
from mbsearch.space.architecture import Architecture
from mbsearch.study.latency_file import Latency, NetworkLatency
from mbsearch.training.devices import torch_threads
from mbsearch.training.folding import fold_norms
from mbsearch.training.network import build

_ROUNDS = 10
_WARM_UP_SECONDS = 0.3
_OWN_LOAD = 0.5  # of this process: it has just loaded torch

_LOGGER = logging.getLogger(__name__)


def measure_networks(
    architectures: Sequence[Architecture],
    engines: Sequence[str],
    *,
    threads: int,
    runs: int,
    on_progress: OnProgress = ignore_progress,
) -> tuple[NetworkLatency, ...]:
    """Measure networks with every engine by `measure_latency`; warn if the machine is busy.

    Raises:
        ExportError: an engine is unknown or not installed.
    """
    _warn_if_busy(threads)
    return tuple(
        NetworkLatency(
            network.name,
            network.fingerprint,
            network.alpha,
            network.resolution,
            measure(network)["mult_adds"],
            latency,
        )
        for engine in engines
        for network, latency in zip(
            architectures,
            measure_latency(
                architectures, engine=engine, threads=threads, runs=runs, on_progress=on_progress
            ),
            strict=True,
        )
    )


def tau_with_mult_adds(measured: Sequence[NetworkLatency]) -> dict[str, float | None]:
    """Return Kendall's tau between Mult-Adds and median latency, by engine.

    It is None for a single network.
    """
    engines = dict.fromkeys(each.latency.engine for each in measured)
    taus = {}
    for engine in engines:
        rows = [each for each in measured if each.latency.engine == engine]
        tau = kendall_tau(
            [each.mult_adds for each in rows], [each.latency.median_seconds for each in rows]
        )
        taus[engine] = None if math.isnan(tau) else tau
    return taus


def measure_latency(
    architectures: Sequence[Architecture],
    *,
    engine: str = "onnxruntime",
    threads: int = 1,
    runs: int = 100,
    on_progress: OnProgress = ignore_progress,
) -> list[Latency]:
    """Return the latency of each network for one image at the network's resolution.

    Batch normalizations are folded.

    The networks take turns over ten rounds, so that other load on the machine affects all of them
    alike. Each is warmed up first.

    Args:
        architectures: the networks.
        engine: a key of `ENGINES`.
        threads: number of threads of the engine, for one image.
        runs: timed images per network, at least ten.
        on_progress: receives an event for each prepared network, and for each round.

    Raises:
        ExportError: the engine is unknown or not installed.
    """
    if engine not in ENGINES:
        raise ExportError(
            f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}"
            + did_you_mean(engine, ENGINES)
        )
    with torch_threads(threads):
        steps: list[Callable[[], object]] = []
        for architecture in architectures:
            steps.append(ENGINES[engine](architecture, threads))
            _warm_up(steps[-1])
            on_progress(Progress(f"networks for {engine}", len(steps), len(architectures)))
        times: list[list[float]] = [[] for _ in steps]
        for done in range(_ROUNDS):
            on_progress(Progress(f"rounds by {engine}", done, _ROUNDS))
            for step, found in zip(steps, times, strict=True):
                step()  # brings its weights back into the caches
                found += [_timed(step) for _ in range(max(1, runs // _ROUNDS))]
    return [_latency(engine, threads, found) for found in times]


def _warn_if_busy(threads: int) -> None:
    """Log a warning if other processes leave too few free cores for an engine's threads."""
    if not hasattr(os, "getloadavg"):
        return
    load, cores = os.getloadavg()[0], usable_cores()
    if load + threads > cores + _OWN_LOAD:
        _LOGGER.warning(
            f"the machine is busy: the load average of the last minute is {load:.1f} on {cores} "
            "cores; latencies are longer than on an idle machine. Measure again when it is idle"
        )


def _latency(engine: str, threads: int, seconds: Sequence[float]) -> Latency:
    lower, median, upper = (float(q) for q in np.percentile(seconds, [25, 50, 75]))
    return Latency(engine, threads, len(seconds), median, lower, upper)


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _warm_up(step: Callable[[], object]) -> None:
    end = time.perf_counter() + _WARM_UP_SECONDS
    while time.perf_counter() < end:
        step()


def _torch(architecture: Architecture, threads: int) -> Callable[[], object]:
    network = fold_norms(build(architecture)).to(memory_format=torch.channels_last)
    image = torch.randn(1, *architecture.image_format.shape)
    image = image.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def step() -> object:
        return network(image)

    return step


def _onnxruntime(architecture: Architecture, threads: int) -> Callable[[], object]:
    require(["onnx"])
    exportable = Exportable(architecture, build(architecture).eval(), architecture.name)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(exportable, Path(folder))
        session = onnx_session(Path(folder) / ONNX, threads)
    shape = (1, *architecture.image_format.shape)
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return lambda: session.run(None, {"images": image})


ENGINES: dict[str, Callable[[Architecture, int], Callable[[], object]]] = {
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}
"""Functions that prepare a network to run one image on a number of threads, by engine."""
