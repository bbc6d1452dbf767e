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
) -> None:
    """Open the page where a network is chosen: live, read-only, offline.

    Example: mbsearch dashboard results/v2
    """
    from mbsearch.dashboard.app import create_app
    from mbsearch.dashboard.studies import Library, open_shelf
    from mbsearch.study.opening import read_study
    from mbsearch.study.records import metric_of

    _require_free(host, port)
    shelf = open_shelf(results, storage)
    # Large studies are read in the background, unless the budgets have to be understood.
    metric = metric_of(read_study(results, storage).records()) if budget else ""
    app = create_app(Library(shelf, parse_budgets(budget, None, metric)))
    if not _is_loopback(host):
        err.print(
            f"[yellow]warning:[/] {escape(host)} can be reached from other machines, and the page "
            "asks nobody for a password; an SSH tunnel to 127.0.0.1 is safer",
            soft_wrap=True,
        )
    err.print(f"http://{host}:{port}  (Ctrl-C ends it)", highlight=False)
    # Every request would be a line otherwise.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Dash takes what is not given from the environment, so everything that matters is given.
    app.run(host=host, port=port, debug=False, proxy=None, use_reloader=False, threaded=True)


def _require_free(host: str, port: int) -> None:
    """Refuse an address that cannot be listened on; the server would end by itself then."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise SpecError(
            f"--host {host} --port {port}: expected an address that is free, got: "
            f"{error.strerror}; another --port may be"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
