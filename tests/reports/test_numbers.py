"""Numbers and files are read as their writer meant them, or refused with their line."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mbsearch.config.specification import load_specification
from mbsearch.errors import SpecError
from mbsearch.execution.table import read_table
from mbsearch.space.yaml_nodes import dump_yaml
from mbsearch.space.yaml_source import parse_document
from reports.command_line import Ran, call

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")
SPACE = """\
name: small
resolution: 32
stem: {channels: 8}
stages:
  - {block: inverted_residual, channels: 16, stride: 2, expansion: {choices: [3, 6]}}
head: {channels: 32}
"""

SIZE = (
    "expected an integer from 1 to 4096 for a square, or height x width of another rectangle, "
    "such as 96x160"
)


def write_space(folder: Path, *changes: tuple[str, str]) -> Path:
    """A space with some of its text replaced."""
    text = SPACE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "s.yaml"
    path.write_text(text)
    return path


# 8. Numbers and words of a YAML file


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels: 16", "channels: 024", "s.yaml:5: stages.0.channels: expected a number without a leading zero (24), or text in quotes, got 024"),
        ("resolution: 32", "resolution: 0160", "s.yaml:2: resolution: expected a number without a leading zero (160), or text in quotes, got 0160"),
        ("[3, 6]", "[3, 06]", "s.yaml:5: stages.0.expansion.choices.1: expected a number without a leading zero (6)"),
        ("resolution: 32", "alpha: 00.5", "s.yaml:2: alpha: expected a number without a leading zero (0.5)"),
        ("resolution: 32", "resolution: 1:36", f"s.yaml:2: resolution: {SIZE}, got '1:36'"),
        ("resolution: 32", "alpha: 1:30.5", "s.yaml:2: alpha: expected a number, got '1:30.5'"),
        ("stride: 2", "linear: yes, stride: 2", "s.yaml:5: stages.0.linear: expected true or false, got 'yes'"),
        ("stride: 2", "linear: off, stride: 2", "s.yaml:5: stages.0.linear: expected true or false, got 'off'"),
        ("resolution: 32", "resolution: ~", f"s.yaml:2: resolution: {SIZE}, got nothing"),
        ("resolution: 32", "resolution: 2024-01-01", f"s.yaml:2: resolution: {SIZE}, got '2024-01-01'"),
        ("resolution: 32", "\tresolution: 32", "s.yaml:2: not valid YAML: found a tab that cannot start any token"),
        ("head: {", "resolution: 64\nhead: {", "s.yaml:6: resolution: expected every key once, got 'resolution' twice (first in line 2)"),
        ("resolution: 32", "alpha: 1e999", "s.yaml:2: alpha: expected a finite number"),
        ("head: {", "proxy: {learning_rate: .nan}\nhead: {", "s.yaml:6: proxy.learning_rate: expected a finite number, got nan"),
        ("resolution: 32", "resolution: !!binary MzI=", "s.yaml:2: resolution: expected a value without the tag !!binary"),
        ("resolution: 32", "? [resolution]\n: 32", "s.yaml:2: expected a key, got a list"),
    ],
)  # fmt: skip
def test_what_yaml_1_1_would_change_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert message in call(tmp_path, "count", write_space(tmp_path, (old, new))).refused()


def mult_adds(folder: Path, *changes: tuple[str, str]) -> int:
    """The Mult-Adds of a network without choices."""
    path = write_space(folder, ("{choices: [3, 6]}", "3"), *changes)
    found: int = json.loads(call(folder, "count", path, "--json").passed())["mult_adds"]
    return found


@pytest.mark.parametrize(
    ("spelling", "number"),
    [("2E-1", 0.2), ("5e-1", 0.5), ("1e+0", 1), ("1E1", 10), (".5", 0.5), ("+2.", 2), ("1_0", 10)],
)
def test_every_number_of_yaml_1_2_is_a_number(tmp_path: Path, spelling: str, number: float) -> None:
    old = "resolution: 32"
    given, plain = (mult_adds(tmp_path, (old, f"{old}\nalpha: {n}")) for n in (spelling, number))
    assert given == plain


@pytest.mark.parametrize("name", ["no", "on", "2024-02-30", "12:30:45", "1.2.3", "yes", "0b1"])
def test_words_and_dates_are_text(tmp_path: Path, name: str) -> None:
    found = call(tmp_path, "count", write_space(tmp_path, ("small", name))).passed()
    assert f"{name}: 2 networks" in found


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_encodings_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    path = write_space(tmp_path, ("small", "größe"))
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))
    assert "größe: 2 networks" in call(tmp_path, "count", path).passed()


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    path = write_space(tmp_path, ("stem:", "# größe\nstem:"))
    path.write_bytes(path.read_text().encode("latin-1"))
    expected = "s.yaml:3: expected a YAML file in UTF-8 or UTF-16, got byte 0xf6"
    assert expected in call(tmp_path, "count", path).refused()


@in_process
@given(
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300),
    st.sampled_from(["{!r}", "{:e}", "{:E}", "{:.17g}", "{:+}", "{:.3f}", "{:#.20G}"]),
)
def test_a_number_is_read_as_python_prints_it(number: float, spelling: str) -> None:
    text = spelling.format(number)
    found = parse_document(f"a: {text}", "s.yaml").data["a"]
    assert isinstance(found, int | float)
    assert math.isclose(found, float(text), rel_tol=1e-15)


@in_process
@given(st.integers(0, 10**17), st.integers(1, 5), st.sampled_from(["", "-", "+"]))
def test_an_integer_is_decimal_and_has_no_leading_zero(number: int, zeros: int, sign: str) -> None:
    assert parse_document(f"a: {sign}{number}", "s.yaml").data["a"] == int(f"{sign}{number}")
    with pytest.raises(SpecError, match=r"s.yaml:1: a: expected a number without a leading zero"):
        parse_document(f"a: {sign}{'0' * zeros}{number}", "s.yaml")


@in_process
@given(
    st.recursive(
        st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Cn", "Co", "Zl", "Zp")))
        | st.from_regex(r"[-+0-9._eEoxyntf:]{1,8}", fullmatch=True)
        | st.sampled_from(["yes", "No", "null", "~", "<<", "1e5", "0o7", "2024-01-01", "1:30"])
        | st.integers(-(10**17), 10**17)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.none()
        | st.booleans(),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_is_written_reads_back_here_and_by_yaml_1_1(data: Any) -> None:
    text = dump_yaml({"a": data})
    assert parse_document(text, "s.yaml").data == {"a": data}
    assert yaml.safe_load(text) == {"a": data}


@pytest.mark.parametrize(
    ("metric", "spelling", "bound"),
    [
        ("mult_adds", "600m", 600e6),
        ("mult_adds", "6E8", 6e8),
        ("mult_adds", "6e+8", 6e8),
        ("mult_adds", "0.6 G", 6e8),
        ("mult_adds", "600_000_000", 6e8),
        ("params", "'1e+6'", 1e6),
        ("params", "+2.5M", 2.5e6),
        ("params", "500 K", 500e3),
        ("peak_activation_bytes", "1.5MiB", 1.5 * 2**20),
        ("peak_activation_bytes", "512 KiB", 2**19),
        ("peak_activation_bytes", "500kB", 500e3),
        ("peak_activation_bytes", "2mb", 2e6),
        ("latency", "5μs", 5),
        ("latency", "5µs", 5),
        ("latency", "1e-3s", 1000),
        ("latency", "2000ns", 2),
        ("latency", ".5 ms", 500),
    ],
)
def test_a_quantity_is_read_in_every_usual_spelling(
    tmp_path: Path, metric: str, spelling: str, bound: float
) -> None:
    path = write_space(tmp_path, ("head:", f"limits: {{{metric}: {spelling}}}\nhead:"))
    call(tmp_path, "count", path).passed()
    if "MBSEARCH" not in os.environ:
        assert list(load_specification(path).settings.limits.bounds().values()) == [bound]


@pytest.mark.parametrize(
    ("metric", "spelling", "accepted"),
    [
        ("mult_adds", "600 MFLOPs", "(600M, 2.5M, 512k, 6e8)"),
        ("mult_adds", "'2,5M'", "(600M, 2.5M, 512k, 6e8)"),
        ("mult_adds", "'024M'", "(600M, 2.5M, 512k, 6e8)"),
        ("params", "1e99", "(600M, 2.5M, 512k, 6e8)"),
        ("peak_activation_bytes", "1.5 MiBit", "(500k, 1.5MiB)"),
        ("latency", "5m", "(5ms, 800us)"),
        ("latency", "5", "(5ms, 800us)"),
    ],
)
def test_a_refused_quantity_shows_accepted_ones(
    tmp_path: Path, metric: str, spelling: str, accepted: str
) -> None:
    path = write_space(tmp_path, ("head:", f"limits: {{{metric}: {spelling}}}\nhead:"))
    message = call(tmp_path, "count", path).refused()
    assert f"s.yaml:6: limits.{metric}: expected a " in message
    assert accepted in message


# 9. Tables


def tiny_rows(options: Callable[[object], str] = str) -> list[list[str]]:
    """A table of the space ``tiny``: its choices, and accuracies from 0.5."""
    tiny = load_specification("tiny")
    names = [choice.name for choice in tiny.choices]
    rows = [[*names, "accuracy"]]
    for i, params in enumerate(tiny.enumerate_params()):
        rows.append(
            [
                *(options(params[name]) if name in params else "" for name in names),
                options(0.5 + i / 1024),
            ]
        )
    return rows


def look_up(folder: Path, table: Path) -> Ran:
    """Read a table as a run does; a version without --dry-run looks a network up."""
    words = ["run", "--space", "tiny", "--sampler", "random", "--table", str(table)]
    dry = "MBSEARCH" not in os.environ
    return call(folder, *words, *(["--dry-run"] if dry else ["--trials", "1", "--jobs", "1"]))


def decimal_comma(value: object) -> str:
    return str(value).replace(".", ",") if isinstance(value, float) else str(value)


def shouted(rows: list[list[str]]) -> list[list[str]]:
    """The header in another spelling: `` ACCURACY ``, `` ALPHA ``."""
    return [[f" {name.upper()} " for name in rows[0]], *rows[1:]]


TABLES = {
    "semicolons": ("\n".join(";".join(row) for row in tiny_rows()), "utf-8"),
    "tabs": ("\n".join("\t".join(row) for row in tiny_rows()), "utf-8"),
    "decimal commas": ("\r\n".join(";".join(row) for row in tiny_rows(decimal_comma)), "utf-8-sig"),
    "quoted decimal commas": ("\n".join(",".join(f'"{cell}"' for cell in row) for row in tiny_rows(decimal_comma)), "utf-8"),
    "line for Excel": ("sep=;\r\n" + "\r\n".join(";".join(row) for row in tiny_rows(decimal_comma)), "cp1252"),
    "UTF-16": ("\r\n".join("\t".join(row) for row in tiny_rows()), "utf-16"),
    "UTF-16 without a mark": ("\r\n".join(";".join(row) for row in tiny_rows()), "utf-16-le"),
    "header in capitals": ("\n".join(",".join(row) for row in shouted(tiny_rows())), "utf-8"),
    "integers as decimals": ("\n".join(",".join(row) for row in tiny_rows(lambda v: str(float(v)) if type(v) is int else str(v))), "utf-8"),
    "blank lines": ("\n\n".join(",".join(row) for row in tiny_rows()) + "\n\n\n", "utf-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, case: str) -> None:
    text, encoding = TABLES[case]
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    look_up(tmp_path, path).passed()
    if "MBSEARCH" not in os.environ:
        found = read_table(path, load_specification("tiny"))
        assert list(found.values()) == [0.5 + i / 1024 for i in range(len(tiny_rows()) - 1)]


def test_fingerprints_in_capitals_are_those_networks(tmp_path: Path) -> None:
    tiny = load_specification("tiny")
    fingerprints = [tiny.decode(params).fingerprint for params in tiny.enumerate_params()]
    path = tmp_path / "t.json"
    path.write_text(json.dumps({each.upper(): 0.5 for each in fingerprints}))
    look_up(tmp_path, path).passed()
    if "MBSEARCH" not in os.environ:
        assert set(read_table(path, tiny)) == set(fingerprints)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "alpha;acc\n0.5;0.7\n", "t.csv:1: expected a column 'accuracy', columns separated by a comma, semicolon or tab; got 'alpha', 'acc'"),
        ("t.csv", "alpha accuracy\n0.5 0.7\n", "t.csv:1: expected a column 'accuracy', columns separated"),
        ("t.csv", "fingerprint,acuracy\n", "did you mean 'acuracy'?"),
        ("t.csv", "fingerprint,Accuracy,accuracy\n", "t.csv:1: expected the column 'accuracy' once, got it twice"),
        ("t.csv", "fingerprint,accuracy\n0123456789abcdef,0,81\n", "t.csv:2: expected 2 cells as in the first row, got 3"),
        ("t.csv", "fingerprint,accuracy\n1.23457E+15,0.81\n", "t.csv:2: fingerprint: expected 16 hexadecimal digits, got '1.23457E+15'"),
        ("t.csv", "fingerprint,accuracy\n0123456789abcdef,81%\n", "t.csv:2: accuracy: expected 0 to 1, got '81%'"),
        ("t.csv", "fingerprint,accuracy\n0123456789abcdef,0.81\n", "t.csv: expected networks of the space tiny for 1000 classes"),
        ("t.json", '{"0123456789ABCDEF": 0.5}', "t.json: expected networks of the space tiny"),
        ("t.json", '{"0123456789abcdef": 0.5, "0123456789abcdef": 0.6}', "t.json: expected JSON, got an error: '0123456789abcdef' stands twice"),
        ("t.json", '{"0123456789abcdef": true}', "t.json:row 1: accuracy: expected 0 to 1, got True"),
        ("t.json", "[" * 100_000, "t.json: expected JSON, got one nested too deeply"),
        ("t.csv", "", "t.csv:1: expected a column 'accuracy'"),
    ],
)  # fmt: skip
def test_another_table_is_refused_with_what_was_found(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert message in look_up(tmp_path, path).refused()


@pytest.mark.parametrize("text", ["alpha;acc\n0.5;0.7\n", "fingerprint,accuracy\nx,1\n", ""])
def test_the_truth_of_an_audit_is_read_by_the_same_rules(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    words = ["audit", "--space", "tiny", "--truth", "t.csv"]
    assert "error: t.csv:" in call(tmp_path, *words).refused()


# 10. Options


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("count mobilenet_v2 --alpha 0.5 --alpha 1", "--alpha"),
        ("count mobilenet_v2 --resolution 96 --resolution=128", "--resolution"),
        ("run --space tiny --trials 3 --trials 4", "--trials"),
        ("run --racing --no-racing", "--racing"),
        ("status --at 20M --at 30M", "--at"),
        ("export -o a --output b", "--output"),
        ("dashboard --port 8050 --port 8051", "--port"),
    ],
)
def test_an_option_of_one_value_is_given_once(tmp_path: Path, words: str, option: str) -> None:
    message = call(tmp_path, *words.split()).refused()
    assert f"{option}: expected once, got twice" in message


def test_a_cost_is_limited_once(tmp_path: Path) -> None:
    words = ["run", "--space", "tiny", "--limit", "params=1M", "--limit", "params=2M"]
    assert "expected each cost once, got params twice" in call(tmp_path, *words).refused()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of the space ``tiny``, without trainings."""
    folder = tmp_path_factory.mktemp("study")
    tiny = load_specification("tiny")
    networks = map(tiny.decode, tiny.enumerate_params())
    truth = {network.fingerprint: 0.5 + i / 1000 for i, network in enumerate(networks)}
    (folder / "truth.json").write_text(json.dumps(truth))
    words = "run --space tiny --table truth.json --trials 3 --jobs 1 --sampler random"
    call(folder, *words.split()).passed()
    return folder


@pytest.mark.parametrize("name", ["best.onnxx", "best.pdf", "best.py", "best.h5", "best.ONX"])
def test_an_output_of_an_unknown_extension_is_refused(study: Path, name: str) -> None:
    message = call(study, "export", "-o", name).refused()
    assert f"--output {name}: expected a folder, or a file that ends in one of .yaml" in message
    assert not (study / name).exists()


@pytest.mark.parametrize("name", ["best.yaml", "best.YAML", "best.yml", "best.Yml"])
def test_an_output_that_ends_in_yaml_is_that_file(study: Path, name: str) -> None:
    call(study, "export", "-o", name).passed()
    assert (study / name).read_text().startswith("name: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best.onnx", "new/best.ONNX", "best.pt2"])
def test_an_output_that_ends_in_a_format_is_that_file(study: Path, name: str) -> None:
    call(study, "export", "-o", name).passed()
    path = study / name
    assert path.stat().st_size > 10_000
    assert not [each for each in path.parent.iterdir() if each.name.startswith(".")]
    if path.suffix.lower() == ".onnx":
        onnx.checker.check_model(onnx.load(path))


@pytest.mark.parametrize("name", ["report.pdf", "report.txt", "report"])
def test_a_report_is_html(study: Path, name: str) -> None:
    assert "expected a file that ends in .html" in call(study, "report", "-o", name).refused()
    assert not (study / name).exists()
