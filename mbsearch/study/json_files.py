"""Read JSON files that commands wrote, with one error message for damaged files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mbsearch.errors import StorageError

T = TypeVar("T")

_DAMAGED = (OSError, ValueError, TypeError, KeyError, AttributeError, zlib.error)


def read_json(path: Path, command: str, decode: Callable[[Any], T]) -> T | None:
    """Read and decode a JSON file; None if it does not exist.

    Args:
        path: of the file.
        command: of mbsearch that writes it, for the message.
        decode: from plain data. Any error of it means that the file has another shape.

    Raises:
        StorageError: the file is damaged.
    """
    try:
        return decode(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except _DAMAGED:
        raise damaged_file(path, command) from None


def damaged_file(path: Path, command: str) -> StorageError:
    """Return the error for a file that is not what its `mbsearch` command writes."""
    return StorageError(
        f"{path}: expected what `mbsearch {command}` writes, got a damaged file; delete it, and "
        f"the same {command} makes it again"
    )
