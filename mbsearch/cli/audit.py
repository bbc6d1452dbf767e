"""``mbsearch audit``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mbsearch.cli.terminal import (
    Device,
    Evaluator,
    Json,
    SkipDamaged,
    Weights,
    err,
    out,
    print_table,
    with_evaluator,
)

if TYPE_CHECKING:
    from mbsearch.study.artifacts import Audit


def audit(
    space: Annotated[str, typer.Option(help="YAML file, or the name of a shipped space.")],
    networks: Annotated[int, typer.Option(help="Networks to judge, spread over all costs.")] = 24,
    references: Annotated[
        int,
        typer.Option(min=0, help="MobileNets judged beside them: is the proxy fair to them?"),
    ] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Proxy runs of each, for the noise.")] = 2,
    epochs: Annotated[
        int, typer.Option(min=1, help="Length of the training that stands for the truth.")
    ] = 30,
    truth: Annotated[
        Path | None,
        typer.Option(help="CSV or JSON of true accuracies, in place of the long training."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Image folder or data set name; without it, embedded Fashion-MNIST."),
    ] = None,
    evaluator: Evaluator = None,
    weights: Weights = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the study; the space's by default.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Where studies live.")] = Path("results"),
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at once; one a core by default, four on a GPU."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of sample, split and trainings.")] = 0,
    device: Device = None,
    skip_damaged: SkipDamaged = False,
    as_json: Json = False,
) -> None:
    """Measure whether the proxy ranks networks better than counting their Mult-Adds does.

    Example: mbsearch audit --space v2.yaml --networks 24 --epochs 30
    """
    from mbsearch.audit.run import audit as run_audit
    from mbsearch.config.specification import load_specification
    from mbsearch.progress import RunDisplay
    from mbsearch.study.store import study_folder

    loaded = with_evaluator(load_specification(space), evaluator)
    if weights is not None:
        loaded = loaded.with_settings({"weights": weights})
    with RunDisplay(err) as display:
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
            on_images=display.images,
            on_start=display.trainings,
            on_preparation=display.preparation,
            on_end=display.trainings,
            say=display.say,
        )
    if as_json:
        print(json.dumps(asdict(found), indent=2))  # noqa: T201 - rich may colour it
    else:
        print_audit(found)


def print_audit(found: Audit) -> None:
    """Print every score's ranking, and the verdict."""
    table = Table(title=f"Kendall tau with the truth ({found.truth}), {found.networks} networks")
    for column in ("score", "tau", "90 %", "cheap", "middle", "dear", "regret"):
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
        f"{found.sentence()}; {found.seconds:.1f} s a proxy run, noise of its accuracy {noise}",
        highlight=False,
        soft_wrap=True,
    )
