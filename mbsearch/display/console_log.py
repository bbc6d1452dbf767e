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
def log_to(console: Console) -> Iterator[None]:
    """Print log messages of mbsearch, from level INFO on, while the block runs."""
    handler, level = _ConsoleHandler(console), _LOGGER.level
    _LOGGER.addHandler(handler)
    if not _LOGGER.isEnabledFor(logging.INFO):
        _LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(level)


class _ConsoleHandler(logging.Handler):
    """Logging handler that prints messages on a console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one log message, above the progress bar if there is one."""
        print_line(self._console, self.format(record))
