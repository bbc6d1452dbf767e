"""``mbsearch spaces`` and ``mbsearch schema``."""

from __future__ import annotations

import json

from rich.table import Table

from mbsearch.cli.terminal import Json, out, print_table


def spaces(as_json: Json = False) -> None:
    """List the packaged spaces with their size and cost range, and the reference networks.

    The papers' experiments are small spaces for ``mbsearch run --sampler grid``.

    Example: mbsearch spaces --json
    """
    from dataclasses import asdict

    from mbsearch.config.specification import load_specification
    from mbsearch.config.survey import survey
    from mbsearch.cost.units import millions
    from mbsearch.space.library import (
        paper_names,
        papers_folder,
        reference_names,
        space_names,
        spaces_folder,
    )

    searched = {name: spaces_folder() / f"{name}.yaml" for name in space_names()}
    papers = {name: papers_folder() / f"{name}.yaml" for name in paper_names()}
    found = {
        name: survey(load_specification(path), sample_size=200)
        for name, path in (searched | papers).items()
    }
    if as_json:
        print(json.dumps({name: asdict(each) for name, each in found.items()}))  # noqa: T201
        return
    for title, names in (("Packaged search spaces", searched), ("Experiments of papers", papers)):
        table = Table(title=title)
        for column in ("space", "networks", "min", "median", "max Mult-Adds"):
            table.add_column(column, justify="left" if column == "space" else "right")
        for name in names:
            each = found[name]
            costs = (each.min_mult_adds, each.median_mult_adds, each.max_mult_adds)
            table.add_row(f"{name}.yaml", f"{each.encodings:,}", *map(millions, costs))
        print_table(table)
    out.print("Reference networks: " + ", ".join(reference_names()), highlight=False)


def schema() -> None:
    """Print the JSON Schema of space and architecture files, for editors.

    Example: mbsearch schema > mbsearch.schema.json
    """
    from mbsearch.config.schema import json_schema

    print(json.dumps(json_schema(), indent=2))  # noqa: T201
