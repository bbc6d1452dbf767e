"""Worker processes that train networks by the full recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mbsearch.execution.local import Executor, LocalProcesses
from mbsearch.training.devices import default_jobs, prepare_worker, worker_imports
from mbsearch.training.long_training import FinalTraining
from mbsearch.training.loop import compile_ahead


@contextmanager
def training_workers(training: FinalTraining, jobs: int | None = None) -> Iterator[Executor]:
    """Start the worker processes of a training, and stop them at the end.

    Args:
        training: what they run. With several devices there is one worker, which uses all of them.
        jobs: trainings at a time; None for one a core, or four on a GPU.
    """
    device = training.devices[0]
    compile_ahead(device)
    jobs = 1 if len(training.devices) > 1 else jobs or default_jobs(device)
    with LocalProcesses(training, jobs, prepare_worker, worker_imports(device)) as executor:
        yield executor
