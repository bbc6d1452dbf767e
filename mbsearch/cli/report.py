"""``mbsearch report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import Budgets, Results, Storage, err, parse_budgets
from mbsearch.errors import SpecError
from mbsearch.study.identity import IDENTITY

if TYPE_CHECKING:
    from mbsearch.analysis.kept_predictions import KeptPredictions
    from mbsearch.analysis.worst_errors import ErrorPictures, WorstError


def report(
    results: Results = None,
    budget: Budgets = None,
    storage: Storage = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "report.html"
    ),
) -> None:
    """Write a study as a single HTML file that works offline.

    Example: mbsearch report results/v2 -o v2.html
    """
    from mbsearch.analysis.findings import findings_of
    from mbsearch.analysis.worst_errors import PictureRequest
    from mbsearch.config.proxy_settings import data_title
    from mbsearch.report.html import document
    from mbsearch.study.artifacts import read_artifacts
    from mbsearch.study.atomic_files import write_atomically
    from mbsearch.study.opening import files_of, location, read_study
    from mbsearch.study.records import metric_of

    if output.suffix.lower() not in (".html", ".htm"):
        raise SpecError(f"--output {output}: expected a file that ends in .html")
    study = read_study(results, storage)
    identity = study.settings().get(IDENTITY)
    data = "unknown images" if identity is None else data_title(identity["data"])
    measured = read_artifacts(files_of(results, storage), identity)
    findings = findings_of(study.records(), study.settings(), measured.retrained)
    budgets = parse_budgets(budget, None, metric_of(findings.records))
    where = location(results, storage)

    def pictures(kept: KeptPredictions, errors: Sequence[WorstError]) -> ErrorPictures:
        from mbsearch.data.error_pictures import error_pictures

        return error_pictures(PictureRequest.of(study.settings(), kept, errors))

    title = f"{study.name} on {data}"
    write_atomically(output, document(findings, title, measured, budgets, where, pictures))
    err.print(f"written to {escape(str(output))}", highlight=False, soft_wrap=True)
