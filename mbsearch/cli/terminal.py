"""Consoles, options and parsers shared by several commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from mbsearch.display.consoles import console
from mbsearch.errors import SpecError, did_you_mean
from mbsearch.study.environment import STORAGE_VARIABLE

if TYPE_CHECKING:
    from mbsearch.config.budgets import Budget
    from mbsearch.config.specification import SearchSpecification
    from mbsearch.space.size import Size

out = console()
err = console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SIZE_HELP = "Image side in pixels, or HEIGHTxWIDTH."
Results = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of a study, or of several studies, for the newest. With --storage, NAME of "
        "the study, or FOLDER/NAME of its files. \\[default: results]",
        show_default=False,
    ),
]
StudyFolder = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of a study, or of several studies, for the newest. \\[default: results]",
        show_default=False,
    ),
]
TrainingJobs = Annotated[
    int | None,
    typer.Option(
        min=1, max=4096, help="Trainings at a time. By default one a core, or four on a GPU."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Image folder, table of labels (.csv), .parquet file or folder of them, or name "
        "of a data set. By default embedded "
        "Fashion-MNIST."
    ),
]
StudyData = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Where the study's images are, if they were moved. By default where the search found "
        "them.",
        show_default=False,
    ),
]
StudyName = Annotated[
    str | None, typer.Option(help="Name of the study. By default the name of the space.")
]
AllStudies = Annotated[Path, typer.Option(help="Folder of all studies.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or mps. By default the best one available.")
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar=STORAGE_VARIABLE,
        help="PostgreSQL database of the study, as postgresql://USER@HOST/DATABASE. By default the "
        "study is in a folder. The password belongs into PGPASSWORD or ~/.pgpass.",
        show_default=False,
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        help="Upper bound on the study's cost, as 20M, or on several costs, as "
        "mult_adds=20M,params=500k. May be repeated. \\[default: the study's budgets]",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Pretrained weights that networks inherit: efficientnet_lite0, a file, none, or auto "
        "(efficientnet_lite0 for folders of colour photos). By default the space's.",
        show_default=False,
    ),
]
Evaluator = Annotated[
    str | None,
    typer.Option(
        help="Initial weights of a training: random (training), or those of a supernet that is "
        "trained first (supernet). By default the space's.",
        show_default=False,
    ),
]


def print_text(text: str, style: str = "") -> None:
    """Print a text as it is: wrapped at words on a terminal, as one line in a pipe."""
    out.print(text, style=style, highlight=False, markup=False, soft_wrap=not out.file.isatty())


def plain_table(title: str) -> Table:
    """Return an empty table without vertical lines."""
    return Table(title=title, box=SIMPLE_HEAD, title_justify="left", collapse_padding=True)


def print_table(table: Table, optional: Sequence[str] = ()) -> None:
    """Print a table at full width, because a terminal would truncate its numbers.

    On a terminal that is too narrow, columns of `optional` are left out, the first one first, until
    the table fits. The caption names them.
    """
    wide = Console(width=10_000)

    def width(shown: Table) -> int:
        return Measurement.get(wide, wide.options, shown).maximum

    titles = [str(column.header) for column in table.columns]
    left_out: list[str] = []
    for title in optional:
        if not out.file.isatty() or width(table) <= out.width:
            break
        left_out.append(title)
        table.columns.pop(titles.index(title))
        titles.remove(title)
    if left_out:
        table.caption = f"not shown in {out.width} columns: {', '.join(left_out)}"
        table.caption_justify = "left"
    shown = Console(file=out.file, width=max(out.width, width(table)))
    shown.print(table)


def cost(option: str, text: str, metric: str) -> int:
    """Return the value of a cost option such as ``100M`` or ``5ms``.

    Raises:
        SpecError: it is not a cost; the option is named.
    """
    from mbsearch.cost.metrics import find_metric

    try:
        return find_metric(metric).unit.parse(text)
    except ValueError as error:
        raise SpecError(f"{option}: expected {error}, got {text!r}") from None


def read_size(text: str | None) -> Size | None:
    """Return the size that the option ``--resolution`` gives; None if it is not given.

    Raises:
        SpecError: it is not a size; the option is named.
    """
    from mbsearch.space.size import Size

    try:
        return None if text is None else Size.read(text)
    except ValueError as expected:
        raise SpecError(f"--resolution: expected {expected}, got {text!r}") from None


def parse_budget(option: str, text: str, metric: str) -> Budget:
    """Return the budget for an option such as ``20M`` or ``mult_adds=20M,params=500k``.

    Args:
        option: name of the option, for messages.
        text: of the option.
        metric: the cost that a single number bounds: that of the study's front.

    Raises:
        SpecError: it is not a budget; the option is named.
    """
    from mbsearch.config.budgets import Budget
    from mbsearch.cost.metrics import COSTS

    if "=" not in text:
        return Budget.of({metric: cost(option, text, metric)})
    bounds: dict[str, int] = {}
    for part in text.split(","):
        name, _, value = (each.strip() for each in part.partition("="))
        require_one_of(f"{option} {text}", name, tuple(COSTS))
        if COSTS[name].key in bounds:
            raise SpecError(f"{option} {text}: expected each cost once, got {name} twice")
        bounds[COSTS[name].key] = cost(f"{option} {name}", value, COSTS[name].key)
    return Budget.of(bounds)


def parse_budgets(given: Sequence[str] | None, at: str | None, metric: str) -> list[Budget]:
    """Return the budgets given by ``--budget`` and its alias ``--at``.

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


MinImages = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Leave out classes with fewer training images. By default the space's "
        "proxy.min_images, which is 1.",
        show_default=False,
    ),
]


def require_one_of(option: str, got: str, known: Sequence[str]) -> None:
    """Raise an error if an option's value is not one of the allowed ones.

    Raises:
        SpecError: the value is unknown; the nearest known one is suggested.
    """
    if got not in known:
        raise SpecError(
            f"{option}: expected one of {', '.join(known)}, got {got!r}" + did_you_mean(got, known)
        )


def with_evaluator(space: SearchSpecification, evaluator: str | None) -> SearchSpecification:
    """Return the specification with the evaluator given by ``--evaluator``.

    Raises:
        SpecError: the value is unknown.
    """
    from mbsearch.config.proxy_settings import EVALUATORS

    if evaluator is None:
        return space
    require_one_of("--evaluator", evaluator, EVALUATORS)
    proxy = space.settings.proxy.starting_from(evaluator)
    return space.with_settings({"proxy": proxy})


def with_min_images(space: SearchSpecification, min_images: int | None) -> SearchSpecification:
    """Return a space without classes of fewer than ``--min-images`` images; None keeps all."""
    if min_images is None:
        return space
    proxy = space.settings.proxy
    given = proxy.model_dump(exclude_unset=True) | {"min_images": min_images}
    return space.with_settings({"proxy": type(proxy).model_validate(given)})
