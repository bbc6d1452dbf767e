"""The interface of a dashboard page."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from dash import Dash
from dash.development.base_component import Component

from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot


@runtime_checkable
class Page(Protocol):
    """A page of the dashboard. Every module of mbsearch/dashboard/pages/ is one."""

    TITLE: str
    """Text of its link in the header."""

    ADDRESS: str
    """Path in the URL, without slashes."""

    ORDER: int
    """Position in the header. The page with the lowest number is at the URL without a path."""

    NEEDS: str
    """What the page shows: ``nothing`` of one study, a ``study``, or ``results`` of its trials.

    A notice replaces the page of a study that cannot be read, or that has no completed trial.
    """

    def layout(self, snapshot: Snapshot, fields: Fields, library: Library) -> Component:
        """Return the whole page.

        Args:
            snapshot: the study. It has a completed trial if the page needs results.
            fields: of the URL's query.
            library: of all studies.
        """

    def redraw_key(self, snapshot: Snapshot, fields: Fields) -> Any:
        """Return plain data that the layout depends on; another value redraws the whole page.

        Everything else is updated by callbacks.
        """

    def register(self, app: Dash, library: Library) -> None:
        """Add the callbacks of the page to the application."""
