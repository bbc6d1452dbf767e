"""Let SIGTERM (schedulers) and SIGHUP (closed terminals) interrupt a command like Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mbsearch.cli.terminal import err
from mbsearch.display.console_log import print_line

_NAMES = ("SIGTERM", "SIGHUP")  # Windows lacks the second


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGTERM or SIGHUP; later ones are ignored.

    The exit code is then 128 plus the signal's number. A signal that is ignored already, as by
    nohup, stays ignored. Without a terminal after SIGHUP, output is discarded.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        if number != signal.SIGTERM:
            _discard_terminal_output()
        raise KeyboardInterrupt

    known = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        known = []
    signals = [each for each in known if signal.getsignal(each) == signal.SIG_DFL]
    for each in signals:
        signal.signal(each, interrupt)
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        if received:
            sys.exit(128 + received[0])
        raise
    finally:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def resumable_trainings() -> Iterator[None]:
    """Print how to resume trainings that are interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        line = "interrupted; completed trainings are saved. Run the same command to resume"
        print_line(err, line)
        raise


def _discard_terminal_output() -> None:
    """Replace standard output and error by the null device where they are terminals."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)
