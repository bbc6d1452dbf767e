"""The processes of a run that trains on this machine."""

from __future__ import annotations

import psutil


def fork_servers(driver: int) -> list[psutil.Process]:
    """The process that forks a driver's workers, where there is one."""
    children = psutil.Process(driver).children()
    return [child for child in children if "forkserver" in " ".join(child.cmdline())]


def workers(driver: int) -> list[psutil.Process]:
    """The workers of a driver, which are not its own children."""
    return [worker for server in fork_servers(driver) for worker in server.children()]
