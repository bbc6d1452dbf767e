"""What a terminal shows: words wrap, tables fit, an estimate of the time left, busy machines."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.text import Text

from mbsearch.cli import main, terminal
from mbsearch.cli.terminal import plain_table, print_table, print_text
from mbsearch.display.console_log import print_line
from mbsearch.display.progress_display import ProgressDisplay
from mbsearch.latency import benchmark
from mbsearch.progress import Progress, TimeLeft

TEXT = "At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 (screening)"


class Screen(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


Shown = Callable[[io.StringIO, int], Console]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Replace the console of the command line by one that writes into a file."""

    def on(file: io.StringIO, width: int) -> Console:
        console = Console(file=file, width=width, no_color=True)
        monkeypatch.setattr(terminal, "out", console)
        return console

    return on


def test_words_wrap_on_a_terminal_and_nowhere_in_a_pipe(shown: Shown) -> None:
    for file in (Screen(), io.StringIO()):
        console = shown(file, 40)
        print_text(TEXT)
        print_line(console, TEXT)
        lines = file.getvalue().splitlines()
        if file.isatty():
            assert max(map(len, lines)) <= 40
            assert " ".join(line.strip() for line in lines) == f"{TEXT} {TEXT}"
        else:
            assert lines == [TEXT, TEXT]


def test_tables_fit_the_terminal_by_leaving_out_the_least_important_columns(shown: Shown) -> None:
    for width in (20, 40, 120):
        file = Screen()
        shown(file, width)
        table = plain_table("Networks")
        for column in ("trial", "accuracy", "Mult-Adds", "alpha", "px"):
            table.add_column(column, no_wrap=True)
        table.add_row("43", "0.750", "12.2 M", "0.35", "128")
        print_table(table, ("px", "alpha", "Mult-Adds"))
        text = Text.from_ansi(file.getvalue()).plain
        assert max(map(len, text.splitlines())) <= width
        left_out = {20: "px, alpha, Mult-Adds", 40: "px"}.get(width)
        assert ("not shown" in text) == (left_out is not None)
        assert ("128" in text) == (left_out is None)
        assert left_out is None or left_out in " ".join(text.split())
    pipe = io.StringIO()
    shown(pipe, 20)
    print_table(table, ("trial",))
    assert "43" in pipe.getvalue(), "a pipe gets every column"


def test_the_time_left_is_estimated_from_the_third_training_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = 0.0
    monkeypatch.setattr("mbsearch.progress.time.monotonic", lambda: seconds)
    file = io.StringIO()
    with ProgressDisplay(Console(file=file, width=40)) as display:
        for completed in range(6):
            message = f"trial {completed}" if completed else None
            display.update(Progress("search", completed, 10, 1, message=message))
            seconds += 60
    assert file.getvalue().splitlines() == [
        "trial 1",
        "trial 2",
        "trial 3 (left 0:07:00)",
        "trial 4 (left 0:06:00)",
        "trial 5 (left 0:05:00)",
    ]
    left = TimeLeft()
    assert left(Progress("search", 1, seconds_left=90.0)) == 90.0, "a time limit is exact"
    assert left(Progress("finals", 0, 3)) is None, "a new task starts anew"


def test_a_busy_machine_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(benchmark, "usable_cores", lambda: 4)
    for load, busy in ((0.3, False), (3.0, False), (3.9, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            benchmark.measure_networks([], ["torch"], threads=1, runs=10)
        assert ("the machine is busy: the load average" in caplog.text) == busy


def test_latency_reports_every_network_and_round() -> None:
    seen: list[Progress] = []
    benchmark.measure_latency([], engine="torch", on_progress=seen.append)
    assert [(each.completed, each.total) for each in seen] == [(i, 10) for i in range(10)]


@pytest.mark.parametrize(
    "words",
    [
        "latency --runs 20 --runs 30",
        "status --at 5M --at 10M",
        "report --output a.html -o b.html",
        "run --racing --no-racing",
    ],
)
def test_an_option_of_one_value_that_is_given_twice_is_an_error(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    option = words.split()[1]
    assert capsys.readouterr().err == f"error: {option}: expected once, got twice\n"


def test_an_option_that_may_be_repeated_and_a_flag_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "no-such-folder", "--json", "--json", "--budget", "5M", "--budget", "10M"])
    assert ended.value.code == 2
    assert "no-such-folder: expected the folder of a study" in capsys.readouterr().err
