"""The tiny space with other objectives, and a table of accuracies for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fake_search import TINY

from mbsearch.config.budgets import Limits
from mbsearch.config.specification import (
    SearchSpecification,
)


def towards(
    *objectives: str, space: SearchSpecification = TINY, limits: Limits | None = None
) -> SearchSpecification:
    changes: dict[str, Any] = {"objectives": objectives}
    if limits is not None:
        changes["limits"] = limits
    return space.with_settings(changes)


def table(folder: Path) -> Path:
    """Write a table of accuracies that do not correlate with any cost, and return its path."""
    rows = {}
    for params in TINY.enumerate_params():
        key = TINY.decode(params).fingerprint
        rows[key] = int(key[:4], 16) / 2**16
    path = folder / "table.json"
    path.write_text(json.dumps(rows))
    return path
