"""Cores and memory that this process may use: those of the machine, or of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """Return the number of cores that this process may use, at least 1.

    It is the number of cores of its affinity, or the CPU quota of its control groups (versions 1
    and 2) if that is smaller, rounded down.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.floor(min(cores, _quota(root))))


def usable_memory(root: Path = _ROOT) -> float:
    """Return the bytes that this process may use, by the machine's and its groups' limits.

    Args:
        root: folder that holds ``proc`` and ``sys``.
    """
    limits = [_machine_memory()]
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += _numbers(folder / name)[:1]
    return min(limits)


def _machine_memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # a system without these names
        return math.inf


def _quota(root: Path) -> float:
    """Return the smallest CPU quota of the control groups of this process, in cores."""
    quotas = [math.inf]
    for folder in _groups(root, "cpu"):
        quota = _numbers(folder / "cpu.max")
        if not quota:
            quota = _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0] > 0 and quota[1] > 0:  # -1 in version 1: no quota
            quotas.append(quota[0] / quota[1])
    return min(quotas)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of all their parent groups.

    In a container the path of a group may be that on the host, so that only the top folder exists.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        group = Path(path.strip("/"))
        for top in [mounts / names, mounts / controller] if names else [mounts]:
            yield from (top / each for each in (group, *group.parents))


def _numbers(path: Path) -> list[float]:
    """Return the numbers in a file, with ``max`` as infinity; empty if it cannot be read."""
    try:
        return [math.inf if word == "max" else float(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
