"""What the commands share: consoles, options of one meaning, quantities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mbsearch.errors import SpecError

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Results = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of a study, or of several: then the newest. With --storage, NAME of the study."
        " \\[default: results]",
        show_default=False,
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(help="PostgreSQL that holds the study, as postgresql://USER@HOST/DATABASE."),
]


def cost(option: str, text: str, metric: str) -> int:
    """A bound on a cost from an option, as 100M or 5ms.

    Raises:
        SpecError: it is none; the option is named.
    """
    from mbsearch.space.settings import parse_cost

    try:
        return parse_cost(metric, text)
    except ValueError as error:
        raise SpecError(f"{option}: expected {error}, got {text!r}") from None
