"""What the commands share: consoles, options of one meaning, quantities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from mbsearch.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from mbsearch.config.settings import Budget
    from mbsearch.config.specification import SearchSpecification

out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Results = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of a study, or of several: then the newest. With --storage, NAME of the "
        "study, or FOLDER/NAME of its files. \\[default: results]",
        show_default=False,
    ),
]
StudyFolder = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of a study, or of several: then the newest. \\[default: results]",
        show_default=False,
    ),
]
TrainingJobs = Annotated[
    int | None,
    typer.Option(min=1, help="Trainings at a time; one a core by default, four on a GPU."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or mps; the best by default.")]
Storage = Annotated[
    str | None,
    typer.Option(help="PostgreSQL that holds the study, as postgresql://USER@HOST/DATABASE."),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        help="Bound on the study's cost, as 20M, or several, as mult_adds=20M,params=500k; "
        "repeated: a further question. \\[default: the study's budgets]",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Weights that networks inherit: efficientnet_lite0, a file, none, or auto: the "
        "former for folders of colour photos; the space's by default.",
        show_default=False,
    ),
]
Evaluator = Annotated[
    str | None,
    typer.Option(
        help="What a training starts from: fresh weights (training), or those of a supernet that "
        "is trained first (supernet); the space's by default.",
        show_default=False,
    ),
]


def print_table(table: Table) -> None:
    """Print a table whole, however narrow the terminal is: a number cut short is another one."""
    wide = Console(width=10_000)
    natural = Measurement.get(wide, wide.options, table).maximum
    Console(width=max(out.width, natural)).print(table)


def cost(option: str, text: str, metric: str) -> int:
    """A bound on a cost from an option, as 100M or 5ms.

    Raises:
        SpecError: it is none; the option is named.
    """
    from mbsearch.config.settings import parse_cost

    try:
        return parse_cost(metric, text)
    except ValueError as error:
        raise SpecError(f"{option}: expected {error}, got {text!r}") from None


def parse_budget(option: str, text: str, metric: str) -> Budget:
    """A budget from an option: ``20M`` bounds `metric`; ``mult_adds=20M,params=500k`` names each.

    Args:
        option: name of the option, for messages.
        text: what the option was given.
        metric: the cost that the study weighs accuracy against, a key of a network's costs.

    Raises:
        SpecError: it is none; the option is named.
    """
    from mbsearch.config.settings import COSTS, Budget, cost_of

    if "=" not in text:
        name = next(name for name in COSTS if cost_of(name) == metric)
        cost(option, text, metric)
        return Budget.model_validate({name: text.strip()})
    bounds: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = (each.strip() for each in part.partition("="))
        require_one_of(f"{option} {text}", name, COSTS)
        if name in bounds:
            raise SpecError(f"{option} {text}: expected each cost once, got {name} twice")
        cost(f"{option} {name}", value, cost_of(name))
        bounds[name] = value
    return Budget.model_validate(bounds)


def parse_budgets(given: Sequence[str] | None, at: str | None, metric: str) -> list[Budget]:
    """The budgets of ``--budget``, and that of its alias ``--at``.

    Raises:
        SpecError: as `parse_budget`.
    """
    found = [parse_budget("--budget", text, metric) for text in given or ()]
    return found if at is None else [*found, parse_budget("--at", at, metric)]


SkipDamaged = Annotated[
    bool,
    typer.Option(
        "--skip-damaged",
        help="Leave out image files that cannot be read; by default they are named and refused.",
    ),
]


def require_one_of(option: str, got: str, known: Sequence[str]) -> None:
    """Refuse a word that an option does not know.

    Raises:
        SpecError: it is none of them; the nearest is proposed.
    """
    if got not in known:
        raise SpecError(
            f"{option}: expected one of {', '.join(known)}, got {got!r}" + did_you_mean(got, known)
        )


def with_evaluator(space: SearchSpecification, evaluator: str | None) -> SearchSpecification:
    """A space whose trainings start from what the option says.

    Raises:
        SpecError: it says neither.
    """
    from mbsearch.config.settings import EVALUATORS

    if evaluator is None:
        return space
    require_one_of("--evaluator", evaluator, EVALUATORS)
    proxy = space.settings.proxy.starting_from(evaluator)
    return space.with_settings({"proxy": proxy})
