"""Executor for Ray clusters: Ray places each task, and retries it if its worker dies."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mbsearch.errors import ClusterError
from mbsearch.execution.local import TASKS_PER_WORKER, Finished, evaluated
from mbsearch.execution.protocol import Evaluator, Task

try:
    import ray
    from ray.exceptions import (
        LocalRayletDiedError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        RayError,
        RaySystemError,
        RayTaskError,
        WorkerCrashedError,
    )
except ImportError:
    raise ClusterError(
        "--ray: Ray is not installed: pip install 'mbsearch[ray]', on every node of the cluster"
    ) from None

RETRIES = 2  # by Ray, on another worker or node; as many as the driver allows locally
_LOOK_AGAIN = 10.0  # seconds between queries of the cluster's size


class RayCluster:
    """Runs tasks on a Ray cluster, with the evaluator in Ray's object store.

    A rung of a trial is a task with its checkpoint, so that the next rung may run on another node.
    Ray tries a task again if its worker or node dies, at most `RETRIES` times. It cancels the tasks
    of a killed driver.

    Args:
        evaluator: trains the networks.
        address: address of the cluster's head, as ``ray.init`` takes it: ``auto``, ``HOST:6379``,
            ``ray://HOST:10001``, or ``local`` for a cluster of this machine alone.
        gpus_per_trial: share of a GPU that a task occupies; 0 for CPU training.
        jobs: number of tasks at once; None follows the size of the cluster.
        prepare: called by each worker process before its first task.

    Raises:
        ClusterError: there is no cluster at the address, or no node has the GPU that tasks need.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        address: str,
        *,
        gpus_per_trial: float = 0.0,
        jobs: int | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        if not (0 <= gpus_per_trial <= 1 or float(gpus_per_trial).is_integer()):
            raise ClusterError(
                "--gpus-per-trial: expected 0 to 1, or a whole number of GPUs, "
                f"got {gpus_per_trial:g}"
            )
        self._address, self._gpus, self._jobs = address, gpus_per_trial, jobs
        self._tickets: dict[ray.ObjectRef[Finished], int] = {}
        self._room, self._room_asked = 0, -math.inf
        # By default Ray retries a task without end if its node runs out of memory.
        os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
        try:
            _check_address(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError, RayError) as error:
            raise ClusterError(
                f"--ray {address}: expected a Ray cluster, got: {_first_line(error)}"
            ) from None
        if jobs is None and self._count_room() == 0:
            ray.shutdown()
            what = f"{gpus_per_trial:g} GPU" if gpus_per_trial else "a CPU"
            raise ClusterError(
                f"--ray {address}: expected a node with {what} for a trial, got none; "
                "with --jobs N tasks wait until the cluster has more"
            )
        self._evaluator = ray.put(evaluator)
        self._prepare = ray.put(prepare)
        self._evaluate = ray.remote(
            num_cpus=1, num_gpus=gpus_per_trial, max_retries=RETRIES, max_calls=TASKS_PER_WORKER
        )(_evaluate)

    @property
    def slots(self) -> int:
        """Number of tasks that the cluster can run at a time, at least one; it may change."""
        if self._jobs is not None:
            return self._jobs
        if time.monotonic() - self._room_asked > _LOOK_AGAIN:
            self._room, self._room_asked = self._count_room(), time.monotonic()
        return max(1, self._room)

    def submit(self, ticket: int, task: Task) -> None:
        """Submit a task to Ray."""
        reference = self._evaluate.remote(self._evaluator, self._prepare, ticket, task)
        self._tickets[reference] = ticket

    def wait(self, timeout: float) -> list[Finished]:
        """Wait at most `timeout` seconds for a task to end; return all tasks that have ended.

        Raises:
            ClusterError: the cluster is gone, or a node of it is not set up.
        """
        waiting = list(self._tickets)
        try:
            done, _ = ray.wait(waiting, num_returns=1, timeout=timeout)
            if done:  # and all others that have ended by now
                done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            return sorted(map(self._collect, done), key=lambda finished: finished.ticket)
        except (RaySystemError, LocalRayletDiedError) as error:
            raise ClusterError(
                f"--ray {self._address}: the cluster is gone: {_first_line(error)}; completed "
                "trials are saved, run the same command to resume"
            ) from None

    def close(self) -> None:
        """Disconnect from the cluster, which cancels the running tasks."""
        ray.shutdown()

    def _collect(self, reference: Any) -> Finished:
        ticket = self._tickets.pop(reference)
        try:
            finished: Finished = ray.get(reference)
        except RayTaskError as error:  # not an evaluator's error: a node lacks a package
            reason = str(error.cause).strip().splitlines()[-1]
            raise ClusterError(
                f"--ray {self._address}: expected nodes with the packages of this machine, "
                f"got: {reason}"
            ) from None
        except (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError) as error:
            reason = _first_line(error)
            return Finished(ticket, error=f"its worker or node died, {RETRIES + 1} times: {reason}")
        return finished

    def _count_room(self) -> int:
        """Return how many tasks the living nodes can run, by their CPUs and GPU shares."""
        room = 0
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            if node["Alive"]:
                cpus, gpus = (node["Resources"].get(kind, 0.0) for kind in ("CPU", "GPU"))
                shared = math.inf
                if self._gpus:
                    shared = gpus * int(1 / self._gpus) if self._gpus <= 1 else gpus / self._gpus
                room += int(min(cpus, shared))
        return room


def _evaluate(
    evaluator: Evaluator, prepare: Callable[[], None] | None, ticket: int, task: Task
) -> Finished:
    if prepare is not None:
        _prepare_once(prepare)
    return evaluated(evaluator, ticket, task)


def _check_address(address: str) -> None:
    """Raise an error if HOST:PORT refuses a connection; Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


@lru_cache(maxsize=1)
def _prepare_once(prepare: Callable[[], None]) -> None:
    prepare()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
