"""Consoles of the standard streams, which write plain lines unless the stream is a terminal."""

# ruff: noqa: RUF001
from __future__ import annotations

import codecs
import io
import sys
import unicodedata

from rich.console import Console

_NO_WRAPPING = 10_000  # columns
_FALLBACK = "mbsearch-ascii"
_SYMBOLS = {
    "±": "+-",
    "×": "x",
    "·": "*",
    "→": "->",
    "–": "-",
    "—": "-",
    "−": "-",
    "…": "...",
    "•": "*",
    "≥": ">=",
    "≤": "<=",
    "μ": "u",
    "µ": "u",
    "²": "^2",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}
_LOWEST_BYTE, _HIGHEST_BYTE = 0xDC80, 0xDCFF  # of file names that are not text (PEP 383)


def console(*, stderr: bool = False) -> Console:
    """Return a console of standard output or error that shows ":cat:" as text, not an emoji.

    Unless the stream is a terminal, lines are not wrapped and the cursor is not moved, whatever
    FORCE_COLOR says.
    """
    stream = sys.stderr if stderr else sys.stdout
    if stream is not None and stream.isatty():
        return Console(stderr=stderr, emoji=False)
    return Console(stderr=stderr, emoji=False, width=_NO_WRAPPING, force_interactive=False)


def allow_any_encoding() -> None:
    """Let the standard streams replace symbols that they cannot encode with ASCII text."""
    codecs.register_error(_FALLBACK, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_FALLBACK)


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return ASCII for symbols that cannot be encoded: an error handler of `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    if all(_LOWEST_BYTE <= ord(symbol) <= _HIGHEST_BYTE for symbol in part):
        return bytes(ord(symbol) - 0xDC00 for symbol in part), error.end
    return "".join(map(_ascii, part)), error.end


def _ascii(symbol: str) -> str:
    if symbol in _SYMBOLS:
        return _SYMBOLS[symbol]
    letters = unicodedata.normalize("NFKD", symbol).encode("ascii", "ignore").decode()
    return letters or symbol.encode("ascii", "backslashreplace").decode()
