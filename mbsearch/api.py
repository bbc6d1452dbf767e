"""The functions of the Python API that need heavy libraries, which they import when called."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from mbsearch.config.specification import SearchSpecification
from mbsearch.space.architecture import Architecture

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

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
    """The network as a PyTorch module with fresh weights drawn with `seed`.

    It takes float images of shape (N, 3, H, W) and returns logits of shape (N, num_classes). With
    `features_only` it returns a dictionary of the feature maps at every stride; its attributes
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
    trials: int,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    storage: str | None = None,
    jobs: int | None = None,
    sampler: str = "cost-aware",
    seed: int = 0,
    skip_damaged: bool = False,
) -> pd.DataFrame:
    """Search a space as ``mbsearch run`` does, and return every record of the study.

    Scripts must call it under ``if __name__ == "__main__":``, since workers import the script.

    Args:
        trials: networks of the space to train in all; references come on top.
        data: an image folder or the name of a data set; None takes the space's.
        folder: of the study; ``results/NAME`` by default. More trials extend a finished study.
        storage: URL of a PostgreSQL database that holds the study instead of a journal file.
        jobs: worker processes; one a core by default.
        sampler: ``cost-aware``, ``tpe``, ``nsga2``, ``gp`` or ``random``.
        seed: of the search, the split and the trainings.
        skip_damaged: leave out image files that cannot be read, instead of refusing them.

    Raises:
        MbsearchError: as ``mbsearch run`` reports it.
    """
    from mbsearch.analysis.tables import to_frame
    from mbsearch.run import run as run_study
    from mbsearch.study.store import study_folder

    result = run_study(
        space,
        trials=trials,
        folder=Path(folder) if folder is not None else study_folder(space.name),
        storage=storage,
        data=None if data is None else str(data),
        jobs=jobs,
        sampler=sampler,
        seed=seed,
        skip_damaged=skip_damaged,
    )
    return to_frame(result.records)


def load_results(path: str | Path | None = None, *, storage: str | None = None) -> pd.DataFrame:
    """Every record of a study as a table: identity, state, costs, evaluation, choices.

    Args:
        path: the folder of a study, or one that holds studies: then the newest; ``results`` by
            default. With `storage`, its last part is the study's name.
        storage: URL of the PostgreSQL database that holds the study.

    Raises:
        StorageError: there is no study, or it is damaged.
    """
    from mbsearch.analysis.tables import to_frame
    from mbsearch.study.store import read_study

    return to_frame(read_study(None if path is None else Path(path), storage).records())
