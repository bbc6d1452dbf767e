"""``mbsearch dashboard``."""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import Annotated

import typer
from rich.markup import escape

from mbsearch.cli.terminal import Budgets, Results, Storage, err, parse_budgets
from mbsearch.errors import SpecError


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
    from mbsearch.study.opening import read_study
    from mbsearch.study.records import metric_of

    address = Address.of(url_prefix, allow_host or ())
    _require_free(host, port)
    source = open_source(results, storage)
    # Parsing budgets needs the study's cost. Otherwise the study is read in the background.
    metric = metric_of(read_study(results, storage).records()) if budget else ""
    app = create_app(Library(source, parse_budgets(budget, None, metric)), address)
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
