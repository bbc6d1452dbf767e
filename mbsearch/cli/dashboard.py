"""``mbsearch dashboard``."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import Budgets, Results, Storage, err, parse_budgets
from mbsearch.errors import SpecError

if TYPE_CHECKING:
    from mbsearch.config.budgets import Budget


def dashboard(
    results: Results = None,
    budget: Budgets = None,
    storage: Storage = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8050,
    url_prefix: Annotated[
        str,
        typer.Option(help="Path of the dashboard behind a proxy, as /user/ann/proxy/8050."),
    ] = "/",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name of a proxy in front of the dashboard. May be repeated. By default only "
            "names of this machine and IP addresses are answered.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the dashboard of a study: live, read-only, offline.

    Example: mbsearch dashboard results/v2
    """
    from mbsearch.dashboard.address import Address
    from mbsearch.dashboard.app import create_app
    from mbsearch.dashboard.studies import Library, open_source

    address = Address.of(url_prefix, allow_host or ())
    _require_free(host, port)
    source = open_source(results, storage)
    asked = _budgets(budget, results, storage) if budget else ()
    app = create_app(Library(source, asked), address)
    if not _is_loopback(host):
        err.print(
            f"[yellow]warning:[/] {escape(host)} can be reached from other machines, and the "
            "dashboard has no password; an SSH tunnel to 127.0.0.1 is safer",
            soft_wrap=True,
        )
    err.print(f"http://{host}:{port}{address.prefix}  (Ctrl-C to stop)", highlight=False)
    # Werkzeug logs a line for every request.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Dash reads missing arguments from environment variables, so all are given.
    app.run(host=host, port=port, debug=False, proxy=None, use_reloader=False, threaded=True)


def _budgets(given: Sequence[str], results: Path | None, storage: str | None) -> tuple[Budget, ...]:
    """Return the budgets, on costs of the study (the newest one of a folder).

    Raises:
        SpecError: a budget cannot be read.
        StorageError: a budget bounds a cost that the study does not have.
    """
    from mbsearch.analysis.findings import findings_of, require_costs
    from mbsearch.study.opening import read_study
    from mbsearch.study.records import metric_of

    store = read_study(results, storage)
    findings = findings_of(store.records(), store.settings())
    budgets = parse_budgets(given, None, metric_of(findings.records))
    for each in budgets:
        require_costs(findings, each)
    return tuple(budgets)


def _require_free(host: str, port: int) -> None:
    """Raise an error if the address is not free; the server would exit without a message."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise SpecError(
            f"--host {host} --port {port}: expected a free address, got: "
            f"{error.strerror}; try another --port"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
