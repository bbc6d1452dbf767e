"""Measure the latency of networks on this machine with onnxruntime and torch."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from mbsearch.analysis.kendall import kendall_tau
from mbsearch.cost import measure
from mbsearch.errors import ExportError, did_you_mean
from mbsearch.export.exportable import Exportable
from mbsearch.export.formats import require
from mbsearch.export.graphs import ONNX, onnx_session, write_onnx
from mbsearch.space.architecture import Architecture
from mbsearch.study.latency_file import Latency, NetworkLatency
from mbsearch.training.folding import fold_norms
from mbsearch.training.network import build

_ROUNDS = 10
_WARM_UP_SECONDS = 0.3


def measure_networks(
    architectures: Sequence[Architecture], engines: Sequence[str], *, threads: int, runs: int
) -> tuple[NetworkLatency, ...]:
    """Return the latency of each network with each engine; see `measure_latency`.

    Raises:
        ExportError: an engine is unknown or not installed.
    """
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
            measure_latency(architectures, engine=engine, threads=threads, runs=runs),
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

    Raises:
        ExportError: the engine is unknown or not installed.
    """
    if engine not in ENGINES:
        raise ExportError(
            f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}"
            + did_you_mean(engine, ENGINES)
        )
    with _torch_threads(threads):
        steps = [ENGINES[engine](architecture, threads) for architecture in architectures]
        for step in steps:
            _warm_up(step)
        times: list[list[float]] = [[] for _ in steps]
        for _ in range(_ROUNDS):
            for step, found in zip(steps, times, strict=True):
                step()  # brings its weights back into the caches
                found += [_timed(step) for _ in range(max(1, runs // _ROUNDS))]
    return [_latency(engine, threads, found) for found in times]


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


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torch(architecture: Architecture, threads: int) -> Callable[[], object]:
    network = fold_norms(build(architecture)).to(memory_format=torch.channels_last)
    image = torch.randn(1, 3, architecture.resolution, architecture.resolution)
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
    side = architecture.resolution
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    return lambda: session.run(None, {"images": image})


ENGINES: dict[str, Callable[[Architecture, int], Callable[[], object]]] = {
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}
"""Functions that prepare a network to run one image on a number of threads, by engine."""
