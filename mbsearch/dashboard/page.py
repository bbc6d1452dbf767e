"""The interface of the dashboard's pages."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from dash import Dash
from dash.development.base_component import Component

from mbsearch.dashboard.parts import Fields
from mbsearch.dashboard.studies import Library, Snapshot


@runtime_checkable
class Page(Protocol):
    """Interface of a page, which every module in mbsearch/dashboard/pages/ has."""

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
        """Return the components of the page.

        Args:
            snapshot: the study. It has a completed trial if the page needs results.
            fields: of the URL's query.
            library: of all studies.
        """

    def redraw_key(self, snapshot: Snapshot, fields: Fields) -> Any:
        """Return data that the layout depends on; the page is redrawn if it changes.

        Everything else is updated by callbacks.
        """

    def register(self, app: Dash, library: Library) -> None:
        """Register the page's callbacks in the application."""
