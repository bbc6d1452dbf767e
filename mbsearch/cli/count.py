"""``mbsearch count``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import (
    SIZE_HELP,
    Json,
    err,
    out,
    plain_table,
    print_table,
    read_size,
)
from mbsearch.errors import SpecError

if TYPE_CHECKING:
    from mbsearch.config.specification import SearchSpecification
    from mbsearch.space.architecture import Architecture


def count(
    file: Annotated[str, typer.Argument(help="YAML file, packaged space, or reference network.")],
    alpha: Annotated[float | None, typer.Option(help="Width multiplier.")] = None,
    resolution: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    classes: Annotated[
        int | None,
        typer.Option(min=1, help="Number of classes; ignored by a space with a fixed number."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Print one row a layer.")] = False,
    as_json: Json = False,
) -> None:
    """Count Mult-Adds, parameters and memory of a network, or summarize a space.

    Mult-Adds are multiply-accumulates of convolutions and linear layers for one image, as in the
    MobileNet papers, without bias, batch norm, activations and pooling.

    Example: mbsearch count mobilenet_v2 --alpha 0.5 --resolution 160 --layers
    """
    from mbsearch.config.specification import load
    from mbsearch.space.architecture import Architecture

    loaded = load(file)
    if isinstance(loaded, Architecture):
        network = loaded.replace(alpha=alpha, resolution=read_size(resolution), num_classes=classes)
        _count_architecture(network, layers, as_json)
        return
    if alpha is not None or resolution is not None or layers:
        raise SpecError(
            f"{file}: expected an architecture for --alpha, --resolution and --layers, "
            "got a search space"
        )
    _count_space(loaded if classes is None else loaded.with_classes(classes), as_json)


def _count_architecture(architecture: Architecture, layers: bool, as_json: bool) -> None:
    from mbsearch.cost import METRICS, layer_costs, measure
    from mbsearch.space.image_format import COLOURS

    totals = measure(architecture)
    rows = layer_costs(architecture) if layers else []
    if as_json:
        per_layer = {"layers": [row._asdict() for row in rows]} if layers else {}
        print(json.dumps({**totals, **per_layer}))  # noqa: T201  rich would wrap long lines
        return
    images = [f"{architecture.resolution} px"]
    if architecture.input.channels != COLOURS:
        images.append(f"channels: {architecture.input.channels}")
    title = (
        f"{architecture.name}  alpha {architecture.alpha:g}  {', '.join(images)}  "
        f"{architecture.num_classes:,} classes"
    )
    out.print(f"[bold]{escape(title)}[/]", highlight=False)
    if layers:
        table = plain_table("")
        for column in ("layer", "kind", "in (C, H, W)", "out", "Mult-Adds", "params", "bytes"):
            table.add_column(column, justify="left" if column in ("layer", "kind") else "right")
        for row in rows:
            shapes = ("x".join(map(str, s)) for s in (row.in_shape, row.out_shape))
            numbers = (row.mult_adds, row.params, row.activation_bytes)
            table.add_row(row.name, row.kind, *shapes, *(f"{n:,}" for n in numbers))
        print_table(table, ("bytes", "kind", "in (C, H, W)", "params"))
    for metric, total in totals.items():
        out.print(f"{METRICS[metric].label:34} {total:>15,}", highlight=False)


def _count_space(space: SearchSpecification, as_json: bool) -> None:
    from dataclasses import asdict

    from mbsearch.config.survey import survey
    from mbsearch.cost.units import millions
    from mbsearch.search.references import missing_references

    found = survey(space)
    missing = [str(gap) for gap in missing_references(space)]
    if as_json:
        data = {"name": space.name, **asdict(found), "missing_references": missing}
        print(json.dumps(data))  # noqa: T201
        return
    basis = "all" if found.exact else f"{found.surveyed:,} drawn uniformly"
    classes = space.decode(space.complete({})).num_classes
    out.print(
        f"[bold]{escape(space.name)}[/]: {found.encodings:,} networks for {classes:,} classes",
        highlight=False,
    )
    out.print(
        f"Mult-Adds: min {millions(found.min_mult_adds)}, median "
        f"{millions(found.median_mult_adds)}, max {millions(found.max_mult_adds)}",
        highlight=False,
    )
    shares = {
        "within limits": found.feasible_share,
        "duplicates": found.duplicate_share,
        "without a pixel left": found.unbuildable_share or None,
    }
    facts = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share is not None)
    out.print(f"{facts} ({basis})", highlight=False)
    if not missing:
        out.print("MobileNet V1, V2 and V3-small are in the space at every budget")
    for line in missing:
        out.print(escape(f"outside the space: {line}"), soft_wrap=True, highlight=False)
    for warning in found.warnings:
        err.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True, highlight=False)
