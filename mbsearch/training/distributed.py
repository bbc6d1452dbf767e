"""One training on several devices of this machine, with one process per device."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from mbsearch.errors import EvaluationError
from mbsearch.execution.local import die_with_parent
from mbsearch.training.devices import prepare_worker


@dataclass(frozen=True, slots=True)
class Rank:
    """The rank of a process, and the number of processes that train a network together."""

    index: int
    count: int


def run_on_devices(work: Callable[[Rank], object], devices: Sequence[torch.device]) -> None:
    """Run a function in one process per device, connected by torch.distributed.

    Raises:
        EvaluationError: the work failed in a process, or it died; the others are terminated.
    """
    with tempfile.TemporaryDirectory(prefix="mbsearch-") as folder:
        meeting = f"file://{folder}/meeting"
        try:
            spawn(_join, (work, devices, meeting), len(devices))  # type: ignore[no-untyped-call]
        except ProcessRaisedException as error:
            reason = str(error).strip().splitlines()[-1]
            raise EvaluationError(
                reason.removeprefix("mbsearch.errors.EvaluationError: ")
            ) from None
        except ProcessExitedException as error:
            raise EvaluationError(f"a process of the training died: {error}") from None


def _join(
    index: int,
    work: Callable[[Rank], object],
    devices: Sequence[torch.device],
    meeting: str,
) -> None:
    threading.Thread(target=die_with_parent, daemon=True).start()
    prepare_worker()
    on_gpu = devices[index].type == "cuda"
    if on_gpu:
        torch.cuda.set_device(devices[index])
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo", init_method=meeting, rank=index, world_size=len(devices)
    )
    try:
        work(Rank(index, len(devices)))
    finally:
        distributed.destroy_process_group()
