"""The address of the dashboard: the host names it answers to, and its path behind a proxy."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import abort, request

from mbsearch.errors import SpecError

_PREFIX = re.compile(r"(/[A-Za-z0-9._~@%+:=-]+)*/")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Address:
    """Host names and path prefix of the dashboard, as seen through a proxy in front of it.

    `prefix` begins and ends with a slash. `hosts` are names in lower case, beside those of this
    machine and IP addresses.
    """

    prefix: str = "/"
    hosts: frozenset[str] = frozenset()

    @staticmethod
    def of(prefix: str, hosts: Iterable[str]) -> Address:
        """Return the address given by ``--url-prefix`` and ``--allow-host``.

        Raises:
            SpecError: an option is not valid.
        """
        whole = f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"
        if _PREFIX.fullmatch(whole) is None or {".", ".."} & set(whole.split("/")):
            raise SpecError(f"--url-prefix: expected a path, as /proxy/8050, got {prefix!r}")
        names = []
        for host in hosts:
            name = host.lower().removesuffix(".")
            if _HOST.fullmatch(name) is None:
                raise SpecError(
                    f"--allow-host: expected a host name without port, as hub.example.org, "
                    f"got {host!r}"
                )
            names.append(name)
        return Address(whole, frozenset(names))

    def within(self, pathname: str) -> str:
        """Return the path of a page without the prefix."""
        return pathname.removeprefix(self.prefix.rstrip("/"))

    def without_prefix(self, served: _Wsgi) -> _Wsgi:
        """Return the application, wrapped to strip the prefix from paths that have it.

        Some proxies remove it, others keep it.
        """

        def serve(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if self.prefix != "/" and path.startswith(self.prefix):
                environ = environ | {"PATH_INFO": self.within(path)}
            return served(environ, start)

        return serve

    def refuse_foreign_hosts(self) -> None:
        """Reject requests for other host names, as protection against DNS rebinding."""
        host = (urlsplit(f"//{request.host}").hostname or "").removesuffix(".")
        own = ("localhost", socket.gethostname().lower(), socket.getfqdn().lower())
        if host in own or host in self.hosts:
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            abort(
                403,
                "this host name is not a name of the dashboard's machine; behind a proxy, start "
                f"mbsearch dashboard with --allow-host {host if _HOST.fullmatch(host) else 'NAME'}",
            )


THIS_MACHINE = Address()
"""No proxy: paths without a prefix, host names of this machine."""
