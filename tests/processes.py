"""Find the processes of a run on this machine."""

from __future__ import annotations

import psutil


def fork_servers(driver: int) -> list[psutil.Process]:
    """Return the fork server process of a driver, if it has one."""
    children = psutil.Process(driver).children()
    return [child for child in children if "forkserver" in " ".join(child.cmdline())]


def workers(driver: int) -> list[psutil.Process]:
    """Return the worker processes of a driver, which are children of its fork server."""
    return [worker for server in fork_servers(driver) for worker in server.children()]
