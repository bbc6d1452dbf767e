"""Escape names, paths and commands so that Markdown shows them literally."""

from __future__ import annotations

import html
import re

from mbsearch.printable_text import one_line


def escaped(text: str) -> str:
    """Return text on one line, with escapes for Markdown and HTML."""
    plain = html.escape(one_line(text), quote=False)
    marked = re.sub(r"([\\`*\[\]|~#])", r"\\\1", plain)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", marked)


def code(text: str) -> str:
    """Return text as a Markdown code span that is also valid in a table cell."""
    plain = one_line(text).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence, space = "`" * (longest + 1), " " * ("`" in plain)
    return f"{fence}{space}{plain}{space}{fence}"
