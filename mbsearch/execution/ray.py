"""Work on a Ray cluster: every task is a Ray task, placed, moved and tried again by Ray."""

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

RETRIES = 2  # by Ray itself, on another worker or node; as often as the driver tries locally
_LOOK_AGAIN = 10.0  # seconds until the size of the cluster, which may grow, is asked for again


class RayCluster:
    """Runs tasks on a Ray cluster; the evaluator is put into its object store once.

    A rung of a trial is a task, and carries its checkpoint with it: the next rung may run on
    another node. A task whose worker or node dies is tried again by Ray; it is lost only where
    that has failed `RETRIES` times. A killed driver's tasks are ended by Ray.

    Args:
        address: of the cluster's head, as ``ray.init`` takes it: ``auto``, ``HOST:6379``,
            ``ray://HOST:10001``, or ``local`` for a cluster of this machine alone.
        gpus_per_trial: share of a GPU that a task occupies; 0 for CPU training.
        jobs: tasks at once; None takes what the cluster has room for, at any time.
        prepare: makes a worker process ready.

    Raises:
        ClusterError: there is no cluster at the address, or none of its nodes has a GPU although
            tasks need one.
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
        # By default Ray tries a task that a node has no memory for again without end.
        os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
        try:
            _knock(address)
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
                "with --jobs N tasks wait until the cluster has grown"
            )
        self._evaluator = ray.put(evaluator)
        self._prepare = ray.put(prepare)
        self._evaluate = ray.remote(
            num_cpus=1, num_gpus=gpus_per_trial, max_retries=RETRIES, max_calls=TASKS_PER_WORKER
        )(_evaluate)

    @property
    def slots(self) -> int:
        """How many tasks the cluster has room for, at least one; it may grow and shrink."""
        if self._jobs is not None:
            return self._jobs
        if time.monotonic() - self._room_asked > _LOOK_AGAIN:
            self._room, self._room_asked = self._count_room(), time.monotonic()
        return max(1, self._room)

    def submit(self, ticket: int, task: Task) -> None:
        """Queue a task; Ray places it where there is room."""
        reference = self._evaluate.remote(self._evaluator, self._prepare, ticket, task)
        self._tickets[reference] = ticket

    def wait(self, timeout: float) -> list[Finished]:
        """The tasks that ended, waiting at most `timeout` seconds for the first.

        Raises:
            ClusterError: the cluster is gone, or a node of it is not set up.
        """
        waiting = list(self._tickets)
        try:
            done, _ = ray.wait(waiting, num_returns=1, timeout=timeout)
            if done:  # and whatever else has ended by now
                done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
            return sorted(map(self._collect, done), key=lambda finished: finished.ticket)
        except (RaySystemError, LocalRayletDiedError) as error:
            raise ClusterError(
                f"--ray {self._address}: the cluster is gone: {_first_line(error)}; what was told "
                "is kept, and the same command goes on"
            ) from None

    def close(self) -> None:
        """Leave the cluster, which ends what still runs there."""
        ray.shutdown()

    def _collect(self, reference: Any) -> Finished:
        ticket = self._tickets.pop(reference)
        try:
            finished: Finished = ray.get(reference)
        except RayTaskError as error:  # not the evaluator's: a node is not set up as this one is
            reason = str(error.cause).strip().splitlines()[-1]
            raise ClusterError(
                f"--ray {self._address}: expected nodes that have what this machine has installed, "
                f"got: {reason}"
            ) from None
        except (WorkerCrashedError, NodeDiedError, OutOfMemoryError, ObjectLostError) as error:
            reason = _first_line(error)
            return Finished(ticket, error=f"its worker or node died, {RETRIES + 1} times: {reason}")
        return finished

    def _count_room(self) -> int:
        """Tasks that the living nodes have room for: one a CPU, and as many as share its GPUs."""
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


def _knock(address: str) -> None:
    """See whether anybody listens at HOST:PORT: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10).close()


@lru_cache(maxsize=1)
def _prepare_once(prepare: Callable[[], None]) -> None:
    prepare()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
