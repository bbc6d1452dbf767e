"""``mbsearch export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import Results, Storage, err, quantity
from mbsearch.errors import SpecError


def export(
    results: Results = None,
    max_mult_adds: Annotated[
        str | None, typer.Option(help="The most accurate network within this budget, as 100M.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="The network of this trial.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; stdout by default.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Write a network of a study as YAML, which count reads again; the knee by default.

    Example: mbsearch export --max-mult-adds 100M -o best.yaml
    """
    from mbsearch import results as found
    from mbsearch.report import write_whole
    from mbsearch.search.storage import read_study

    if trial is not None and max_mult_adds is not None:
        raise SpecError("expected --trial or --max-mult-adds, got both")
    records = read_study(results, storage).records()
    if trial is not None:
        record = found.by_trial(records, trial)
    elif max_mult_adds is not None:
        budget = quantity("--max-mult-adds", max_mult_adds)
        record = found.best_within(records, budget)
    else:
        record = found.knee(records)
    text = record.architecture.to_yaml()
    if output is None:
        sys.stdout.write(text)
        return
    write_whole(output, text)
    err.print(f"trial {record.trial} ({record.origin}) written to {escape(str(output))}")
