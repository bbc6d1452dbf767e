"""``mbsearch explain``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import (
    SIZE_HELP,
    Json,
    Storage,
    err,
    out,
    plain_table,
    print_table,
    print_text,
    read_size,
)
from mbsearch.errors import SpecError

if TYPE_CHECKING:
    from mbsearch.cost.explanation import BlockCost, Explanation
    from mbsearch.space.architecture import Architecture

_RELU = "relu"


def explain(
    subject: Annotated[
        str,
        typer.Argument(
            help="YAML file, reference network or packaged space; with --trial, the study's "
            "folder; or relu, for the loss of information by a ReLU in few dimensions."
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
        str | None,
        typer.Option(help=f"{SIZE_HELP} By default the network's.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of a space's random network, or of relu's matrices. By default 0.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="With relu: picture to write, .svg.", show_default=False
        ),
    ] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Explain a network's cost: each block as a formula, beside a standard convolution.

    Each layer's Mult-Adds are a product, in letters and in numbers. The standard convolution has
    the block's input, output, kernel and stride.

    Examples:

    mbsearch explain mobilenet_v2 --alpha 0.5

    mbsearch explain results/v2 --trial 12

    mbsearch explain relu --output relu.svg
    """
    if subject == _RELU:
        _require_absent({"trial": trial, "alpha": alpha, "resolution": resolution})
        _explain_relu(seed or 0, output, as_json)
        return
    if output is not None:
        raise SpecError(f"--output {output}: expected it with `explain relu`, got {subject}")
    from mbsearch.cost.explanation import explain as explain_costs

    network = _network(subject, seed) if trial is None else _trial(subject, trial, storage, seed)
    network = network.replace(alpha=alpha, resolution=read_size(resolution))
    explanation = explain_costs(network)
    if as_json:
        print(json.dumps({"name": network.name, **explanation.to_dict()}))  # noqa: T201
        return
    _print(network, explanation)


def _network(subject: str, seed: int | None) -> Architecture:
    """Return a network by file or name, or a random one of a space.

    Raises:
        SpecError: there is no such file, or a seed is given for a single network.
    """
    from mbsearch.config.specification import load
    from mbsearch.space.architecture import Architecture

    loaded = load(subject)
    if isinstance(loaded, Architecture):
        _require_no_seed(seed, subject)
        return loaded
    note = f"{loaded.name} is a space: its random network of --seed {seed or 0} is explained"
    err.print(escape(note), soft_wrap=True, highlight=False)
    return loaded.sample(seed or 0)


def _require_no_seed(seed: int | None, subject: str) -> None:
    if seed is not None:
        raise SpecError(f"--seed: expected a search space or {_RELU}, got {subject}")


def _trial(study: str, trial: int, storage: str | None, seed: int | None) -> Architecture:
    """Return the network of a study's trial.

    Raises:
        StorageError: there is no such study or trial.
        SpecError: a seed is given.
    """
    _require_no_seed(seed, f"trial {trial}")
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


def _require_absent(options: Mapping[str, object]) -> None:
    """Raise an error for an option of networks that was given together with ``relu``."""
    for option, value in options.items():
        if value is not None:
            raise SpecError(f"--{option}: expected a network with it, got {_RELU}")


def _explain_relu(seed: int, output: Path | None, as_json: bool) -> None:
    """Print the loss by a ReLU for each number of dimensions, and draw it if `output` is given."""
    from dataclasses import asdict

    from mbsearch.analysis.relu_loss import MATRICES, reconstructed_spirals, relu_losses, spiral
    from mbsearch.figures.relu_spirals import relu_spirals
    from mbsearch.study.atomic_files import write_atomically

    if output is not None:
        if output.suffix.lower() != ".svg":
            raise SpecError(f"--output {output}: expected a file that ends in .svg")
        write_atomically(output, relu_spirals(spiral(), reconstructed_spirals(seed)))
    losses = relu_losses(seed)
    if as_json:
        print(json.dumps([asdict(loss) for loss in losses]))  # noqa: T201
        return
    print_text(f"A spiral in n dimensions, after a ReLU, mapped back: {MATRICES:,} random matrices")
    table = plain_table("")
    for column in ("n", "error", "95 % interval", "points lost"):
        table.add_column(column, justify="right")
    for loss in losses:
        error = loss.error
        lost = f"{100 * loss.unrecoverable:.1f} %"
        table.add_row(str(loss.dimensions), f"{error.mean:.3f}", error.bounds(), lost)
    print_table(table)
    print_text(
        "error: root mean square distance from the original, relative to the spiral's size. "
        "points lost: fewer than two coordinates are positive, so that no function maps them back."
    )
    if output is not None:
        err.print(f"written to {escape(str(output))}", highlight=False, soft_wrap=True)
