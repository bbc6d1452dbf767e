"""``mbsearch audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mbsearch.cli.interruption import resumable_trainings
from mbsearch.cli.terminal import (
    AllStudies,
    Data,
    Device,
    Evaluator,
    Json,
    MinImages,
    SkipDamaged,
    StudyName,
    TrainingJobs,
    Weights,
    err,
    out,
    print_table,
    with_evaluator,
    with_min_images,
)

if TYPE_CHECKING:
    from mbsearch.study.audit_file import Audit


def audit(
    space: Annotated[str, typer.Option(help="YAML file, or name of a packaged space.")],
    networks: Annotated[int, typer.Option(help="Networks to sample, over all costs.")] = 24,
    references: Annotated[
        int,
        typer.Option(min=0, help="MobileNets to add, to measure a family bias."),
    ] = 4,
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings by the proxy for each network, for the noise.")
    ] = 2,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the long training.")] = 30,
    truth: Annotated[
        Path | None,
        typer.Option(help="CSV or JSON file of true accuracies, instead of the long training."),
    ] = None,
    data: Data = None,
    evaluator: Evaluator = None,
    weights: Weights = None,
    name: StudyName = None,
    results: AllStudies = Path("results"),
    jobs: TrainingJobs = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the sample, the split and the trainings.")
    ] = 0,
    device: Device = None,
    skip_damaged: SkipDamaged = False,
    min_images: MinImages = None,
    as_json: Json = False,
) -> None:
    """Measure the rank agreement of the proxy with a long training, and compare it with Mult-Adds.

    Example: mbsearch audit --space v2.yaml --networks 24 --epochs 30
    """
    from mbsearch.audit.run import audit as run_audit
    from mbsearch.config.specification import load_specification
    from mbsearch.display.progress_display import ProgressDisplay
    from mbsearch.study.opening import study_folder

    loaded = with_min_images(with_evaluator(load_specification(space), evaluator), min_images)
    if weights is not None:
        loaded = loaded.with_settings({"weights": weights})
    with resumable_trainings(), ProgressDisplay(err) as display:
        found = run_audit(
            loaded,
            folder=study_folder(loaded.name if name is None else name, results),
            networks=networks,
            references=references,
            seeds=seeds,
            epochs=epochs,
            truth=truth,
            data=data,
            jobs=jobs,
            seed=seed,
            device=device,
            skip_damaged=skip_damaged,
            on_progress=display.update,
        )
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))  # noqa: T201 - rich may colour it
    else:
        print_audit(found)


def print_audit(found: Audit) -> None:
    """Print the rank agreement of each score, and a summary."""
    table = Table(title=f"Kendall's tau with {found.truth}, {found.networks} networks")
    for column in ("score", "tau", "90 %", "small", "middle", "large", "regret"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for each in found.rankings:
        table.add_row(
            each.score,
            f"{each.tau:.2f}",
            f"{each.low:.2f} to {each.high:.2f}",
            *(f"{tau:.2f}" for tau in each.thirds),
            f"{each.regret:.4f}",
        )
    print_table(table)
    noise = "unknown" if found.noise is None else f"{found.noise:.4f}"
    out.print(
        f"{found.sentence()}; {found.seconds:.1f} s a proxy run, noise of its "
        f"{found.score.noun} {noise}",
        highlight=False,
        soft_wrap=True,
    )
