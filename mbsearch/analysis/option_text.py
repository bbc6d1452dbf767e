"""An option of a space, or a setting, as text."""

from __future__ import annotations

from typing import Any


def option_text(option: Any) -> str:
    """Return an option as text: ``none``, ``yes``, ``0.5``, ``inverted_residual``."""
    if option is None:
        return "none"
    if isinstance(option, bool):
        return "yes" if option else "no"
    return f"{option:g}" if isinstance(option, float) else str(option)
