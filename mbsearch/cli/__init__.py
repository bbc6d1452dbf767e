"""The command line: each command parses options, calls one function and prints.

Slow libraries are imported inside the commands, so that ``--help`` and ``count`` start fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn, cast

import typer
from rich.markup import escape

from mbsearch.cli.audit import audit
from mbsearch.cli.cache import cache
from mbsearch.cli.command import Command
from mbsearch.cli.compare_arms import compare_arms
from mbsearch.cli.count import count
from mbsearch.cli.dashboard import dashboard
from mbsearch.cli.evaluate import evaluate
from mbsearch.cli.explain import explain
from mbsearch.cli.export import export
from mbsearch.cli.interruption import interrupted_by_signals
from mbsearch.cli.latency import latency
from mbsearch.cli.predict import predict
from mbsearch.cli.report import report
from mbsearch.cli.retrain import retrain
from mbsearch.cli.run import run
from mbsearch.cli.spaces import schema, spaces
from mbsearch.cli.status import status
from mbsearch.cli.terminal import err, out
from mbsearch.display.console_log import log_to
from mbsearch.display.consoles import allow_any_encoding
from mbsearch.errors import MbsearchError
from mbsearch.execution.operating_system import require_supported_system
from mbsearch.printable_text import one_line

_INTERRUPTED = 130
_TRACEBACK = "MBSEARCH_TRACEBACK"
# Base class of the errors of typed words; typer does not export it.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
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
    require_supported_system()
    context.with_resource(log_to(err, propagate=False))


for _command in (
    run,
    status,
    audit,
    dashboard,
    report,
    retrain,
    compare_arms,
    export,
    evaluate,
    predict,
    latency,
    count,
    explain,
    spaces,
    schema,
    cache,
):
    app.command(cls=Command)(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; print a user's error as one line and exit with code 2."""
    allow_any_encoding()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with interrupted_by_signals():
            sys.exit(app(words or ["--help"], prog_name="mbsearch", standalone_mode=False) or 0)
    except MbsearchError as error:
        _fail(str(error))
    except _UsageError as error:
        context = error.ctx
        command = context.command_path if context else "mbsearch"
        _fail(f"{error.format_message().rstrip('.')}; see {command} --help")
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except OSError as error:  # a full disk or a lost drive; completed trials are saved
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            raise
        _fail(
            f"{type(error).__name__}: {error}; this is a defect of mbsearch, please report it with "
            f"the output of {_TRACEBACK}=1",
            code=1,
        )


def _fail(message: str, code: int = 2) -> NoReturn:
    """Print an error as one line, and exit."""
    err.print(f"[bold red]error:[/] {escape(one_line(message))}", soft_wrap=True, highlight=False)
    sys.exit(code)
