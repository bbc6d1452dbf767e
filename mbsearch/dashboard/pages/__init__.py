"""The dashboard's pages, one module each; see mbsearch/dashboard/page.py."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from mbsearch.dashboard.page import Page


@cache
def pages() -> dict[str, Page]:
    """Return all pages by URL path, in the order of the header.

    Raises:
        TypeError: a module of this package is not a page.
    """
    found: list[Page] = []
    for info in iter_modules(__path__):
        module = import_module(f"{__name__}.{info.name}")
        if not isinstance(module, Page):
            raise TypeError(f"{module.__name__}: expected the members of Page")
        found.append(module)
    return {page.ADDRESS: page for page in sorted(found, key=lambda page: page.ORDER)}
