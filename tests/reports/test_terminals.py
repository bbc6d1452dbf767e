"""Output suits what reads it: a file, a pipe, a terminal of 80 columns, one that has only ASCII."""

# ruff: noqa: RUF001
from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import Mbsearch, commands_in

if TYPE_CHECKING:
    from mbsearch.study.records import TrialRecord

CURSOR = re.compile(r"\x1b\[\??[0-9;]*[A-HJKSTfhln]")
COLOURS = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
TABLE = "alpha,accuracy\n0.25,0.61\n0.5,0.71\n"
SPACE = """\
name: {name}
resolution: 32
alpha: {{choices: [0.25, 0.5]}}
num_classes: 10
stem: {{channels: 8}}
stages:
  - {{block: separable, channels: 16, stride: 2}}
"""


@pytest.fixture
def looked_up(mbsearch: Mbsearch, tmp_path: Path) -> Mbsearch:
    """``mbsearch`` in a folder with a space and a table of its accuracies."""
    (tmp_path / "space.yaml").write_text(SPACE.format(name="looked-up"))
    (tmp_path / "table.csv").write_text(TABLE)
    return mbsearch


SEARCH = ("run", "--space", "space.yaml", "--table", "table.csv", "--trials", "2", "--jobs", "1")


@pytest.mark.parametrize(
    "variables",
    [COLOURS, COLOURS | {"PYTHONIOENCODING": "ascii"}, COLOURS | {"COLUMNS": "60"}],
    ids=["colour", "colour and ASCII", "60 columns"],
)
def test_a_log_has_neither_cursor_movements_nor_wrapped_lines(
    looked_up: Mbsearch, variables: dict[str, str]
) -> None:
    text = looked_up(*SEARCH, **variables).passed()
    assert CURSOR.findall(text) == []
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert re.search(r"^At .*accuracy 0\.710 .* from screening\.$", plain, re.M)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("count", "mobilenet_v2", "--layers"), ("status", "no±thing→…")],
    ids=lambda arguments: arguments[0] + str(len(arguments)),
)
@pytest.mark.slow
def test_no_command_dies_of_a_symbol(
    mbsearch: Mbsearch, arguments: tuple[str, ...], variables: dict[str, str]
) -> None:
    ran = mbsearch(*arguments, **variables)
    assert "Traceback" not in ran.text
    assert "UnicodeEncodeError" not in ran.text
    assert ran.code == (2 if arguments[0] == "status" else 0)
    if variables.get("PYTHONIOENCODING") != "latin-1" and arguments[0] != "status":
        assert ran.text.isascii()  # a path keeps its bytes


@pytest.mark.skipif("MBSEARCH" in os.environ, reason="earlier versions do not read this study")
def test_symbols_have_an_ascii_spelling(
    study: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    text = commands_in(tmp_path)("status", study[0], PYTHONIOENCODING="ascii").passed()
    assert text.isascii()
    assert re.search(r"0\.\d{3} \+- 0\.\d{3}", text), "± of an accuracy"


@pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")
@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("0.871 ± 0.006", "ascii", "0.871 +- 0.006"),
        ("a → b… ≥ 3 × 2", "ascii", "a -> b... >= 3 x 2"),
        ("Bär, Žluť", "ascii", "Bar, Zlut"),
        ("5 μs", "latin-1", "5 us"),
        ("– “x” •", "cp437", '- "x" *'),
        ("☃", "ascii", "\\u2603"),
        ("m\udce4rz", "utf-8", "m\udce4rz"),
    ],
)
def test_every_symbol_has_a_fallback(text: str, encoding: str, written: str) -> None:
    script = (
        "from mbsearch.display.consoles import allow_any_encoding\n"
        f"allow_any_encoding(); print({text!a})"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    assert done.stdout.decode(encoding, "surrogateescape").rstrip() == written


def on_a_terminal(folder: Path, *arguments: str, columns: int = 80) -> list[str]:
    """What a command writes to a terminal, in lines."""
    main, side = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": os.environ.get("MBSEARCH", str(Path(__file__).parents[2]))}
    command = [sys.executable, "-m", "mbsearch", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=side, stderr=side
    ) as process:
        os.close(side)
        text = b""
        while select.select([main], [], [], 60)[0]:
            try:
                text += os.read(main, 65536)
            except OSError:  # the command has ended
                break
    assert process.returncode == 0, text.decode()
    os.close(main)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode()).splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 60, 120])
def test_tables_of_layers_keep_their_columns_on_a_terminal(tmp_path: Path, columns: int) -> None:
    lines = on_a_terminal(tmp_path, "count", "mobilenet_v2", "--layers", columns=columns)
    assert max(map(len, lines)) <= columns
    rows = [line for line in lines if line.strip().startswith(("stem", "stages", "head"))]
    assert len(rows) == 52 + 2, "one line for each layer: 52 convolutions, pool, classifier"
    assert all(re.search(r" [\d,]+ *$", row) for row in rows)
    totals = [line for line in lines if re.fullmatch(r"\S.* [\d,]+", line.strip())][-4:]
    assert len({len(line.rstrip()) for line in totals}) == 1, "two columns, aligned"
