"""Checks of the characters in names and messages."""

from __future__ import annotations

from unicodedata import category

MOST_IN_A_NAME = 100
"""Characters; a file system allows 255 bytes, and a file's name has more than the name."""


def is_printable(text: str) -> bool:
    """Whether a text is one line without control, bidirectional or unassigned characters."""
    return text.isprintable() or all(c.isprintable() or category(c) == "Zs" for c in text)


def one_line(text: str) -> str:
    """Return a text on one line, with escapes for characters that are not printable."""
    joined = " ".join(line.strip() for line in text.splitlines())
    return "".join(c if is_printable(c) else ascii(c)[1:-1] for c in joined)


def require_name(text: str) -> None:
    """Raise ValueError for a name that a file, a table or a command line cannot hold."""
    if not text.strip():
        raise ValueError("a name with at least one character that is not a space")
    if len(text) > MOST_IN_A_NAME:
        raise ValueError(f"a name of at most {MOST_IN_A_NAME} characters")
    if not is_printable(text):
        raise ValueError("a name of printable characters on one line")
    if text.startswith("-"):
        raise ValueError("a name that does not start with '-', as options do")
