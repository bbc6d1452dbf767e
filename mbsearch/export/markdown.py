"""Quote text in Markdown: names, paths and commands show as they are, and nothing in them acts."""

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
    """Return text as a code span, also in a cell of a table."""
    plain = one_line(text).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence, space = "`" * (longest + 1), " " * ("`" in plain)
    return f"{fence}{space}{plain}{space}{fence}"
