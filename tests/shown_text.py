"""The text that a reader sees of a page's components or of an HTML document."""

from __future__ import annotations

import re
from html import unescape
from typing import Any


def page_text(component: Any) -> str:
    """Return the text of a Dash component and of all components inside it."""
    if isinstance(component, str):
        return component
    if isinstance(component, list | tuple):
        return "".join(map(page_text, component))
    return page_text(getattr(component, "children", None) or "")


def html_text(document: str) -> str:
    """Return the text of an HTML document, without its scripts and styles."""
    body = document.partition("<body>")[2]  # plotly is in the head
    body = re.sub(r"<(script|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]*>", "", body))
