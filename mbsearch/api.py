"""Functions of the Python API that import slow libraries only when called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from mbsearch.config.specification import SearchSpecification
from mbsearch.execution.operating_system import require_supported_system
from mbsearch.progress import OnProgress, ignore_progress
from mbsearch.space.architecture import Architecture

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from mbsearch.execution.protocol import Evaluator
    from mbsearch.search.driver import OnTrial
    from mbsearch.training.feature_maps import FeatureMaps


@overload
def build(
    architecture: Architecture, *, features_only: Literal[False] = False, seed: int = 0
) -> nn.Module: ...


@overload
def build(
    architecture: Architecture, *, features_only: Literal[True], seed: int = 0
) -> FeatureMaps: ...


def build(
    architecture: Architecture, *, features_only: bool = False, seed: int = 0
) -> nn.Module | FeatureMaps:
    """Return a PyTorch network with random weights drawn with `seed`.

    It takes float images of shape (N, C, H, W) and returns logits of shape (N, num_classes). With
    `features_only` it returns a dictionary of the feature maps at every stride. The attributes
    `strides` and `channels` describe them.
    """
    if features_only:
        from mbsearch.training.feature_maps import build_features

        return build_features(architecture, seed=seed)
    from mbsearch.training.network import build as build_network

    return build_network(architecture, seed=seed)


def run(
    space: SearchSpecification,
    *,
    trials: int | None,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    storage: str | None = None,
    jobs: int | None = None,
    sampler: str = "cost-aware",
    seeds: int = 1,
    seed: int = 0,
    skip_damaged: bool = False,
    evaluator: Evaluator | None = None,
    on_trial: OnTrial | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Search a space like ``mbsearch run``, and return all records of the study as a table.

    Scripts, notebooks and text on standard input may call it. An `evaluator` must be defined in a
    module, or in a script that calls this function under ``if __name__ == "__main__":``, because
    workers import it.

    Args:
        space: to search.
        trials: number of networks to train in all, references not counted; None for no limit.
        data: an image folder, a table of labels or the name of a data set; None for the space's.
        folder: folder of the study, ``results/NAME`` by default. More trials extend a study.
        storage: URL of a PostgreSQL database that holds the study instead of a journal file.
        jobs: worker processes; one a core by default.
        sampler: ``cost-aware``, ``tpe``, ``nsga2``, ``gp``, ``random`` or ``grid``, which trains
            every network and takes no number of trials.
        seeds: trainings of each network, with the sampler ``grid``.
        seed: seed of the search, the split and the trainings.
        skip_damaged: leave out image files that cannot be read; by default they are an error.
        evaluator: scores networks instead of the proxy (see mbsearch/execution/protocol.py).
        on_trial: called in this process with the record of each completed, pruned or failed trial.
            A network that is promoted or has a final is passed again. Repeats that measure the
            noise are not passed. An error in it is logged in one line, and the search continues.
        progress: show the progress on stderr: a bar on a terminal, else one line a trial.

    Raises:
        MbsearchError: as ``mbsearch run`` reports it.
    """
    require_supported_system()
    from mbsearch.analysis.tables import to_frame
    from mbsearch.search.driver import ignore_trial
    from mbsearch.study.opening import study_folder
    from mbsearch.study_run import run as run_study

    with _shown_progress() if progress else nullcontext(ignore_progress) as on_progress:
        result = run_study(
            space,
            trials=trials,
            folder=Path(folder) if folder is not None else study_folder(space.name),
            storage=storage,
            data=None if data is None else str(data),
            evaluator=evaluator,
            jobs=jobs,
            sampler=sampler,
            seeds=seeds,
            seed=seed,
            skip_damaged=skip_damaged,
            on_progress=on_progress,
            on_trial=on_trial or ignore_trial,
        )
    return to_frame(result.records)


@contextmanager
def _shown_progress() -> Iterator[OnProgress]:
    """Show progress and log messages on stderr; yield the function that receives events."""
    from mbsearch.display.console_log import log_to
    from mbsearch.display.consoles import console
    from mbsearch.display.progress_display import ProgressDisplay

    shown = console(stderr=True)
    with log_to(shown), ProgressDisplay(shown) as display:
        yield display.update


def load_results(path: str | Path | None = None, *, storage: str | None = None) -> pd.DataFrame:
    """Return all records of a study as a table: identity, state, costs, evaluation, choices.

    Args:
        path: the folder of a study, or a folder of studies, for the newest one; ``results`` by
            default. With `storage`, its last part is the study's name.
        storage: URL of the PostgreSQL database that holds the study.

    Raises:
        StorageError: there is no such study, or it is damaged.
    """
    require_supported_system()
    from mbsearch.analysis.tables import to_frame
    from mbsearch.study.opening import read_study

    return to_frame(read_study(None if path is None else Path(path), storage).records())
