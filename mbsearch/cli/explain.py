"""``mbsearch explain``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import Json, Storage, err, out, plain_table, print_table, print_text

if TYPE_CHECKING:
    from mbsearch.cost.explanation import BlockCost, Explanation
    from mbsearch.space.architecture import Architecture


def explain(
    subject: Annotated[
        str,
        typer.Argument(
            help="YAML file, reference network or packaged space; with --trial, the study's folder."
        ),
    ],
    trial: Annotated[
        int | None, typer.Option(help="Network of this trial of the study.", show_default=False)
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Width multiplier. By default the network's.", show_default=False),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(help="Image side in pixels. By default the network's.", show_default=False),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of a space: seed of the random network to explain.")
    ] = 0,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Explain a network's cost: each block as a formula, beside a standard convolution.

    Each layer's Mult-Adds are a product, in letters and in numbers. The standard convolution has
    the block's input, output, kernel and stride.

    Examples:

    mbsearch explain mobilenet_v2 --alpha 0.5

    mbsearch explain results/v2 --trial 12
    """
    from mbsearch.cost.explanation import explain as explain_costs

    network = _trial(subject, trial, storage) if trial is not None else _network(subject, seed)
    network = network.replace(alpha=alpha, resolution=resolution)
    explanation = explain_costs(network)
    if as_json:
        print(json.dumps({"name": network.name, **explanation.to_dict()}))  # noqa: T201
        return
    _print(network, explanation)


def _network(subject: str, seed: int) -> Architecture:
    """Return a network by file or name, or a random one of a space."""
    from mbsearch.config.specification import load
    from mbsearch.space.architecture import Architecture

    loaded = load(subject)
    if isinstance(loaded, Architecture):
        return loaded
    note = f"{loaded.name} is a space: its random network of --seed {seed} is explained"
    err.print(escape(note), soft_wrap=True, highlight=False)
    return loaded.sample(seed)


def _trial(study: str, trial: int, storage: str | None) -> Architecture:
    """Return the network of a study's trial.

    Raises:
        StorageError: there is no such study or trial.
    """
    from mbsearch.study.opening import read_study
    from mbsearch.study.records import find_trial

    return find_trial(read_study(Path(study), storage).records(), trial).architecture


def _print(network: Architecture, explanation: Explanation) -> None:
    from mbsearch.cost.explanation import CONVENTION, SYMBOLS

    title = f"{network.name}  alpha {network.alpha:g}  {network.resolution} px"
    out.print(f"[bold]{escape(title)}[/]", highlight=False)
    print_text(explanation.summary)
    print_text(CONVENTION, style="dim")
    print_text(SYMBOLS, style="dim")
    for block in explanation.blocks:
        _print_block(block)


def _print_block(block: BlockCost) -> None:
    from mbsearch.cost.explanation import HEAD

    table = plain_table(escape(block.title))
    for column in HEAD:
        table.add_column(column, justify="left" if column == HEAD[0] else "right")
    for row in block.rows():
        table.add_row(*row)
    print_table(table, HEAD[-1:])
    print_text(block.words)
