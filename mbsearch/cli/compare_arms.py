"""``mbsearch compare-arms``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mbsearch.cli.interruption import resumable_trainings
from mbsearch.cli.terminal import (
    Device,
    Json,
    TrainingJobs,
    err,
    out,
    parse_budget,
    print_table,
)
from mbsearch.errors import StorageError
from mbsearch.study.identity import IDENTITY

if TYPE_CHECKING:
    from mbsearch.config.settings import Settings
    from mbsearch.retraining.arms import ArmsComparison
    from mbsearch.space.architecture import Architecture
    from mbsearch.study.identity import Identity


@dataclass(frozen=True)
class _Arm:
    """One of the compared studies: its best network, references, settings and identity."""

    network: Architecture
    references: list[Architecture]
    settings: Settings
    identity: Identity


def compare_arms(
    studies: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of studies on the same images; differences are to the first one."
        ),
    ],
    budget: Annotated[
        str, typer.Option(help="Budget of the answers, as 20M or mult_adds=20M,params=1M.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings for each network.")] = 3,
    jobs: TrainingJobs = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Retrain the answers of several studies with fresh seeds, and compare them on test images.

    The strongest references of the studies for the budget are retrained too. The recipe is the
    first study's `retrain:`. Trainings are saved in its folder, and the same command resumes them.
    Confidence intervals cover test images and seeds.

    Example: mbsearch compare-arms results/search results/random --budget 20M
    """
    from mbsearch.display.progress_display import ProgressDisplay
    from mbsearch.retraining.arms import compare_arms as compare
    from mbsearch.retraining.arms import same_test_images

    arms = [_arm(folder, budget) for folder in studies]
    first = arms[0]
    for folder, arm in zip(studies, arms, strict=True):
        if arm.identity["data_key"] != first.identity["data_key"]:
            raise StorageError(
                f"{folder}: expected a study of {first.identity['data']}, as {studies[0]} is, got "
                f"one of other images ({arm.identity['data']})"
            )
        if arm.settings.score is not first.settings.score:
            raise StorageError(
                f"{folder}: expected a study of {first.settings.score}, as {studies[0]} is, got "
                f"one of {arm.settings.score}"
            )
        if arm.identity.get("weights") is not None:
            raise StorageError(
                f"{folder}: expected a study from scratch, got one whose networks inherit weights; "
                "run `mbsearch retrain` on each study, and compare their test accuracies"
            )
    references = {each.name: each for arm in arms for each in arm.references}
    data = first.identity["data"]
    with resumable_trainings(), ProgressDisplay(err) as display:
        found = compare(
            [arm.network for arm in arms],
            list(references.values()),
            first.settings.retrain.model_copy(update={"seeds": seeds}),
            source=same_test_images(
                data,
                [arm.identity["seed"] for arm in arms],
                first.settings.proxy.min_images,
                display.update,
            ),
            scale=first.settings.final_scale(data),
            folder=studies[0],
            jobs=jobs,
            device=device,
            score=first.settings.score,
            on_progress=display.update,
        )
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))  # noqa: T201
        return
    _print(found)


def _arm(folder: Path, budget: str) -> _Arm:
    """Return a study's arm for a budget; its network is chosen by validation accuracy.

    Results on the test images are ignored, because the studies are compared on them.
    """
    from mbsearch.analysis.answer_selection import answer
    from mbsearch.analysis.findings import findings_of
    from mbsearch.config.specification import read_specification
    from mbsearch.space.yaml_source import parse_document
    from mbsearch.study.opening import read_study

    store = read_study(folder)
    study = store.settings()
    settings = read_specification(parse_document(study["space_yaml"], "space.yaml")).settings
    bounds = parse_budget("--budget", budget, settings.metric)
    found = answer(findings_of(store.records(), study), bounds)
    return _Arm(
        found.record.architecture.replace(name=f"{found.name} of {folder}"),
        [
            margin.other.record.architecture.replace(name=margin.other.record.label)
            for margin in found.margins
            if margin.other.record.is_baseline
        ],
        settings,
        study[IDENTITY],
    )


def _print(found: ArmsComparison) -> None:
    table = Table(title=f"Test {found.score.noun} on {found.images:,} images after retraining")
    for column in ("network", "mean", "seeds"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for name, accuracies in sorted(found.accuracies.items(), key=lambda each: -fmean(each[1])):
        seeds = ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)
        table.add_row(escape(name), f"{fmean(accuracies):.4f}", seeds)
    print_table(table)
    for margin in found.margins:
        out.print(escape(margin.sentence()), highlight=False, soft_wrap=True)
