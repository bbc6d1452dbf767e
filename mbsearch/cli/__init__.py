"""The command line: parses, calls one function, prints.

Heavy libraries are imported inside the commands, so that ``--help`` and ``count`` start at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from rich.markup import escape

from mbsearch.cli.audit import audit
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
from mbsearch.cli.terminal import err
from mbsearch.errors import MbsearchError

_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Choose a small image network by evidence: accuracy against Mult-Adds, with MobileNet "
    "V1 and V2 trained by the same proxy beside it.\n\n"
    "Examples:\n\n"
    "  mbsearch run --space v2.yaml --trials 200\n\n"
    "  mbsearch status\n\n"
    "  mbsearch dashboard\n\n"
    "  mbsearch export --max-mult-adds 100M\n\n"
    "  mbsearch count mobilenet_v2 --alpha 0.5 --resolution 160",
)
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
):
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        app(arguments)
    except MbsearchError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except OSError as error:  # a full disk, a lost drive: whatever was told is already on it
        where = f"{error.filename}: " if error.filename else ""
        err.print(f"[bold red]error:[/] {escape(where)}{error.strerror or error}", soft_wrap=True)
        sys.exit(2)
