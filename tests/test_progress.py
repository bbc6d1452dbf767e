"""The display of progress events and log records."""

from __future__ import annotations

import logging
from io import StringIO

import pytest
from rich.console import Console

from mbsearch.display.console_log import log_to
from mbsearch.display.progress_display import ProgressDisplay
from mbsearch.progress import Progress

LINE = f"trial 7 (search): accuracy 0.800, [bold] {'a long name ' * 10}"


def test_events_without_a_terminal_are_plain_lines() -> None:
    file = StringIO()
    with ProgressDisplay(Console(file=file, width=40)) as display:
        display.update(Progress("search", 0, 9, running=2))
        display.update(Progress("search", 1, 9, running=2, message=LINE))
    assert file.getvalue() == f"{LINE}\n"


def test_events_on_a_terminal_move_a_bar() -> None:
    file = StringIO()
    console = Console(file=file, width=200, force_terminal=True)
    with ProgressDisplay(console) as display:
        display.update(Progress("supernet", 3, 9, running=2, seconds_left=3700, detail="loss 2.31"))
    shown = file.getvalue()
    assert "supernet, 2 running, loss 2.31" in shown
    assert "3/9" in shown
    assert "1:01:40" in shown


def test_log_records_are_lines_and_the_library_is_silent_by_default() -> None:
    file, logger = StringIO(), logging.getLogger("mbsearch.study_run")
    logger.warning("before")
    with log_to(Console(file=file, width=40)):
        logger.info(LINE)
        logger.debug("a detail")
    logger.warning("after")
    assert file.getvalue() == f"{LINE}\n"


def test_a_command_prints_a_message_once_though_a_library_logs_to_the_root(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("mbsearch.study_run")
    for propagate in (True, False):
        caplog.clear()
        with log_to(Console(stderr=True), propagate=propagate):
            logger.info(LINE)
        assert " ".join(capsys.readouterr().err.split()) == LINE.strip()
        assert (LINE.strip() in caplog.text) == propagate
