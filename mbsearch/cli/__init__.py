"""The command line: each command parses options, calls one function and prints.

Slow libraries are imported inside the commands, so that ``--help`` and ``count`` start fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from mbsearch.cli.audit import audit
from mbsearch.cli.cache import cache
from mbsearch.cli.compare_arms import compare_arms
from mbsearch.cli.count import count
from mbsearch.cli.dashboard import dashboard
from mbsearch.cli.export import export
from mbsearch.cli.latency import latency
from mbsearch.cli.report import report
from mbsearch.cli.retrain import retrain
from mbsearch.cli.run import run
from mbsearch.cli.spaces import schema, spaces
from mbsearch.cli.status import status
from mbsearch.cli.terminal import err, out
from mbsearch.display.console_log import log_to
from mbsearch.errors import MbsearchError

_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"mbsearch {version('mbsearch')}", highlight=False)
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Search small image networks for accuracy against Mult-Adds, with MobileNets as references.

    Examples:

    mbsearch run --space v2.yaml --trials 200

    mbsearch status

    mbsearch dashboard

    mbsearch export --max-mult-adds 100M

    mbsearch count mobilenet_v2 --alpha 0.5 --resolution 160
    """
    context.with_resource(log_to(err))


for _command in (
    run,
    status,
    audit,
    dashboard,
    report,
    retrain,
    compare_arms,
    export,
    latency,
    count,
    spaces,
    schema,
    cache,
):
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; print a user's error as one line and exit with code 2."""
    try:
        app(arguments)
    except MbsearchError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except OSError as error:  # a full disk or a lost drive; completed trials are saved
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"[bold red]error:[/] {escape(where)}{error.strerror or error}", soft_wrap=True)
        sys.exit(2)
