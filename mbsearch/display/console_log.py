"""Show log messages of mbsearch as plain lines on a console."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_LOGGER = logging.getLogger("mbsearch")


def print_line(console: Console, line: str) -> None:
    """Print a line without markup and colours; wrap it at words only on a terminal."""
    console.print(line, highlight=False, markup=False, soft_wrap=not console.file.isatty())


@contextmanager
def log_to(console: Console, *, propagate: bool = True) -> Iterator[None]:
    """Print log messages of mbsearch, from level INFO on, while the block runs.

    With `propagate` the root logger's handlers get them, too. A program that configures no logging
    gets handlers from some libraries, which would print each message again.
    """
    handler, level, before = _ConsoleHandler(console), _LOGGER.level, _LOGGER.propagate
    _LOGGER.addHandler(handler)
    _LOGGER.propagate = propagate
    if not _LOGGER.isEnabledFor(logging.INFO):
        _LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(level)
        _LOGGER.propagate = before


class _ConsoleHandler(logging.Handler):
    """Logging handler that prints messages on a console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one log message, above the progress bar if there is one."""
        print_line(self._console, self.format(record))
