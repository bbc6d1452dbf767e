"""Every input ends in one line, soon: no traceback, no endless work, no Python in a message."""

# ruff: noqa: E501 - one line a case
from __future__ import annotations

import html
import json
import os
import pickle
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import markdown  # type: ignore[import-untyped]
import pytest
from fake_evaluator import FakeEvaluator
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.main import get_command

from mbsearch import cli
from mbsearch.config.specification import load
from mbsearch.errors import EvaluationError
from mbsearch.execution.local import LocalProcesses
from mbsearch.execution.protocol import Task
from mbsearch.export.markdown import code, escaped
from mbsearch.printable_text import is_printable, one_line
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import find, load_reference
from reports.command_line import call, write_table
from reports.test_numbers import SPACE, write_space

in_process = pytest.mark.skipif("MBSEARCH" in os.environ, reason="another version is tested")
quickly = settings(
    max_examples=700,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module", autouse=True)
def commands_once() -> Iterator[None]:
    """Build the commands once: each call of typer's application builds them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "app", get_command(cli.app))
        yield


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit processor time, as other processes may use the machine too."""
    started = time.process_time()
    yield
    assert time.process_time() - started < seconds


def ending(folder: Path, *words: str | Path) -> str:
    """What a command printed that ended well, or its only line; all other endings are defects."""
    ran = call(folder, *words)
    assert ran.code in (0, 2), ran.text
    assert "Traceback" not in ran.text
    if ran.code == 2:
        lines = ran.text.splitlines()
        assert len(lines) == 1, ran.text
        assert is_printable(lines[0])
    return ran.text


# 31. Text, names and numbers


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: small", 'name: "a\\0b"', r"s.yaml:1: name: expected printable text on one line, got 'a\x00b'"),
        ("name: small", "name: a\0b", r"s.yaml:1: not valid YAML: expected printable characters, got '\x00'"),
        ("name: small", 'name: "\\ud800"', "s.yaml:1: name: expected printable text on one line"),
        ("name: small", 'name: "\\UFFFFFFFF"', "s.yaml:1: not valid YAML: a number is too large"),
        ("name: small", "name: 'a\u202eb'", "s.yaml:1: name: expected printable text on one line"),
        ("name: small", 'name: "a\\nb"', "s.yaml:1: name: expected printable text on one line"),
        ("name: small", "name: '   '", "s.yaml:1: name: expected a name with at least one character that is not a space"),
        ("name: small", "name: -rf", "s.yaml:1: name: expected a name that does not start with '-'"),
        ("name: small", f"name: {'n' * 101}", "s.yaml:1: name: expected a name of at most 100 characters"),
        ("channels: 16", f"channels: {'9' * 400}", "s.yaml:5: stages.0.channels: expected an integer of at most 18 digits"),
        ("channels: 16", f"channels: {'9' * 5000}", "s.yaml:5: stages.0.channels: expected an integer of at most 18 digits"),
        ("channels: 16", f"channels: {'9' * 17}", "s.yaml:5: stages.0.channels: expected a number <= 65,536"),
        ("resolution: 32", f"num_classes: {'9' * 17}", "s.yaml:2: num_classes: expected a number <= 1,000,000"),
        ("stride: 2", f"stride: 2, repeats: {'9' * 17}", "s.yaml:5: stages.0.repeats: expected a number <= 64"),
        ("resolution: 32", f"weights: {'w' * 5000}", "s.yaml:2: weights: expected text of at most 4,096 characters"),
    ],
)  # fmt: skip
def test_text_and_numbers_that_nothing_can_hold(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert message in ending(tmp_path, "count", write_space(tmp_path, (old, new)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "-rf"], "expected a name that does not start with '-', as options do, got '-rf'"),
        (["--name", "  "], "expected a name with at least one character that is not a space"),
        (["--name", "a\u202eb"], "expected a name of printable characters on one line"),
        (["--name", "a\nb"], "expected a name of printable characters on one line"),
        (["--name", "n" * 300], "expected a name of at most 100 characters"),
        (["--seed", "9" * 20], "--seed: expected an integer of at most 4,294,967,295"),
        (["--minutes", "nan"], "--minutes: expected a finite number, got nan"),
        (["--trials", "9" * 400], "--trials"),
        (["--jobs", "99999"], "--jobs"),
    ],
)  # fmt: skip
def test_options_that_nothing_can_hold(tmp_path: Path, words: list[str], message: str) -> None:
    found = ending(tmp_path, "run", "--space", "tiny", "--table", "t.json", *words)
    assert message in found
    assert not (tmp_path / "results").exists()


yaml_text = st.one_of(
    st.binary(max_size=120),
    st.text("{}[]:,-?!&*#|>%@`'\"\\ \n\t<=~.0123456789eEabx\0\ud800\u202e", max_size=60).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    st.tuples(
        st.integers(0, len(SPACE) - 1),
        st.integers(0, 12),
        st.binary(max_size=6) | st.sampled_from([b"[", b"{", b"*a", b"&a", b"<<: ", b"!!", b"\t"]),
    ).map(lambda edit: SPACE.encode()[: edit[0]] + edit[2] + SPACE.encode()[edit[0] + edit[1] :]),
)


@in_process
@quickly
@given(yaml_text)
@example(b"\xff\xfe\x00")
@example(b"%YAML 999999999999999999999999.1\n---\na: 1")
@example(b'"\\U7fffffff": 1')
def test_any_bytes_of_yaml_end_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.yaml").write_bytes(content)
    ending(tmp_path, "count", "s.yaml", "--alpha", "1")


@in_process
@quickly
@given(
    st.sampled_from(
        [
            ("count",),
            ("status",),
            ("report", "-o"),
            ("export", "-o"),
            ("audit", "--space", "tiny", "--networks", "1", "--name"),
            ("run", "--space", "tiny", "--table"),
            ("run", "--space"),
            ("run", "--space", "tiny", "--table", "none.csv", "--limit"),
            ("status", "--budget"),
            ("run", "--space", "tiny", "--table", "none.csv", "--finals"),
            (),
        ]
    ),
    st.text(max_size=300) | st.text("./\\-=: \0\n\x1b[31m\u202e\ud800~,0123456789eMk", max_size=12),
)
@example(("count",), "x" * 5000)
def test_any_word_ends_in_one_line(tmp_path: Path, words: tuple[str, ...], name: str) -> None:
    ending(tmp_path, *words, name)


@in_process
@quickly
@given(
    st.sampled_from(["postgresql", "postgresql+psycopg", "postgres", "sqlite", "mysql", ""]),
    # Without a slash the host is this machine, which refuses at once.
    st.text(max_size=8).map(lambda text: text.replace("/", "")) | st.sampled_from(["u:%zz", "[]"]),
    st.text(max_size=6) | st.integers(0, 10**6).map(str),
    st.text(max_size=8),
)
@example("postgresql", "", "port", "d")
@example("postgresql", "", "99999999999", "d")
def test_any_url_ends_in_one_line(
    tmp_path: Path, scheme: str, user: str, port: str, rest: str
) -> None:
    ending(tmp_path, "status", "--storage", f"{scheme}://{user}@127.0.0.1:{port}/{rest}")


@given(st.text())
def test_a_message_is_one_printable_line(text: str) -> None:
    assert is_printable(one_line(text))


# 32. Bombs and pipes


def aliases(first: str, repeat: str) -> str:
    """Anchors nested nine deep, each nine times the one before."""
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{i}: &a{i} {repeat.format(', '.join([f'*a{i - 1}'] * 9))}" for i in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (aliases("[x, x, x, x, x, x, x, x, x]", "[{}]"), "it has more than 20,000 keys and values, aliases expanded"),
        (aliases("{x: 1}", "{{<<: [{}]}}"), "it has more than 20,000 keys and values, aliases expanded"),
        ("a: [" + "1, " * 1_300_000 + "1]", "s.yaml:1: not valid YAML: it has more than 20,000 keys and values"),
        ("a: {choices: [" + ", ".join(map(str, range(5000))) + "]}", "a.choices: expected at most 1,000 options, got 5,000"),
        ("a: &a [*a]", "s.yaml:1: not valid YAML: an alias is inside its own anchor"),
        ("a: " + "[" * 5000, "s.yaml:1: not valid YAML: it is nested more than 100 deep"),
        ("a: " + "[" * 150 + "]" * 150, "s.yaml:1: not valid YAML: it is nested more than 100 deep"),
        ("#" * 5_000_000, "s.yaml: expected a YAML file of at most 4,000,000 bytes, got a larger one"),
    ],
    ids=["lists", "merges", "list", "choices", "cycle", "open brackets", "brackets", "size"],
)  # fmt: skip
def test_a_yaml_bomb_is_refused_soon(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with within(5):
        assert message in ending(tmp_path, "count", "s.yaml")


@pytest.mark.parametrize(
    "words",
    [
        ["count", "pipe"],
        ["run", "--space", "pipe"],
        ["run", "--space", "tiny", "--table", "pipe"],
        ["audit", "--space", "tiny", "--truth", "pipe"],
        ["run", "--space", "tiny", "--weights", "pipe"],
    ],
    ids=["network", "space", "table", "truth", "weights"],
)
def test_a_named_pipe_is_refused(tmp_path: Path, words: list[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "got a pipe, socket or device" in ending(tmp_path, *words)


# 33. Messages


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ([("head:", "limits: {mult_adds: 10}\nhead:")], ["run", "--space", "s.yaml", "--table", "t.json"], "s.yaml:6: limits: expected a space with a network within them"),
        ([("head:", "budgets: [{params: 10}]\nhead:")], ["run", "--space", "s.yaml", "--table", "t.json"], "s.yaml:6: budgets: expected a space with a network within them"),
        ([("resolution: 32", "resolution: 2"), ("stride: 2", "stride: 8")], ["count", "s.yaml"], "s.yaml:2: resolution: "),
        ([("resolution: 32", "resolution: 1"), ("{choices: [3, 6]}", "3")], ["count", "s.yaml"], "s.yaml:2: resolution: "),
    ],
)  # fmt: skip
def test_a_mistake_of_the_whole_file_has_its_line(
    tmp_path: Path, changes: list[tuple[str, str]], words: list[str], message: str
) -> None:
    write_space(tmp_path, *changes)
    (tmp_path / "t.json").write_text('[{"stages.0.expansion": 3, "accuracy": 0.5}]')
    assert message in ending(tmp_path, *words)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "got an empty file"),
        (b"these are the weights\n" * 20, "got a text file"),
        (b"i" + b"1" * 100, "got a text file"),
        (pickle.dumps(Path("x")), "got a pickle of other Python objects, which may run code"),
        (b"PK\x03\x04" + bytes(100), "expected a file of weights, got "),
    ],
    ids=["empty", "text", "number", "pickle", "zip"],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_no_weights_is_named(
    tmp_path: Path, content: bytes, got: str, suffix: str
) -> None:
    (tmp_path / f"w{suffix}").write_bytes(content)
    found = ending(tmp_path, "run", "--space", "tiny", "--weights", f"w{suffix}")
    assert f"w{suffix}: expected " in found
    assert "weights_only" not in found
    assert suffix == ".safetensors" or got in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["conut", "tiny"], "error: No such command 'conut'. Did you mean 'count'?"),
        (["count", "tiny", "--alhpa", "1"], "error: No such option: --alhpa"),
        (["count"], "error: Missing argument"),
        (["run", "--trials", "many"], "error: Invalid value for '--trials'"),
        (["dashboard", "--port", "http"], "error: Invalid value for '--port'"),
        (["count", "tiny", "v2"], "error: Got unexpected extra argument"),
        (["count", "tiny", "--alpha"], "error: Option '--alpha' requires an argument"),
    ],
)
def test_a_bad_command_line_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    assert ending(tmp_path, *words).startswith(message)


@in_process
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root becomes another user")
def test_what_may_not_be_read_says_permission(tmp_path: Path) -> None:
    for folder in ("results/s", "photos/cat", "photos/dog"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "results/s/journal.log").touch()
    space = write_space(tmp_path)
    image = ["--data", "photos", "--weights", "none", "--dry-run", "--results", "."]
    commands = (["status"], ["count", "s.yaml"], ["run", "--space", "tiny", *image])
    for words in commands:  # imports what root alone can read
        ending(tmp_path, *words)
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(0o755)
        if parent.name.startswith("pytest-of-"):
            break
    space.chmod(0)
    for folder in ("results", "photos/cat"):
        (tmp_path / folder).chmod(0o311)
    os.seteuid(65534)
    try:
        found = [ending(tmp_path, *words) for words in commands]
    finally:
        os.seteuid(0)
    for line in found:
        assert "cannot be read: permission denied" in line.lower()


@in_process
@pytest.mark.slow
def test_workers_that_cannot_start_show_their_own_error() -> None:
    prepare = partial(json.loads, "{")
    task = Task(load_reference("mobilenet_v2"), seed=0)
    with LocalProcesses(FakeEvaluator(), jobs=1, prepare=prepare) as workers:
        workers.submit(0, task)
        with pytest.raises(EvaluationError, match=r"are started \(JSONDecodeError: Expecting"):
            workers.wait(timeout=120)


# 34. Markdown


@in_process
@given(st.text(max_size=40))
def test_quoted_text_acts_on_nothing(text: str) -> None:
    for quoted in (escaped(text), code(text)):
        assert len(quoted.splitlines()) <= 1
    assert not re.search(r"<|(?<!\\)(\\\\)*[`|*]", escaped(text))
    fence = re.match("`+", code(text))
    assert fence is not None
    assert fence[0] not in code(text)[len(fence[0]) : -len(fence[0])].replace("`" + fence[0], "")


@in_process
@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a`b``c", "x|y", "# [link](http://a)", "**bold** _it_"]
)
def test_a_model_card_shows_names_as_they_are(tmp_path: Path, name: str) -> None:
    path = write_space(tmp_path, ("{choices: [3, 6]}", "3"), ("small", json.dumps(name)))
    network = load(path)
    assert isinstance(network, Architecture)
    title = markdown.markdown(f"# {escaped(network.name)}", extensions=["tables"])
    assert title == f"<h1>{html.escape(name, quote=False)}</h1>"


@pytest.mark.parametrize("name", ["<script>alert(1)", "a`b``c", "[a](b)", "**bold** _it_"])
def test_an_exported_card_shows_the_studys_name_as_it_is(tmp_path: Path, name: str) -> None:
    tiny = re.sub("(?m)^(weights|finals):.*$", "", find("tiny").read_text())  # of later versions
    (tmp_path / "space.yaml").write_text(tiny.replace("name: tiny", f"name: {json.dumps(name)}"))
    options = ("--space", "space.yaml", "--table", write_table(tmp_path), "--trials", "5")
    call(tmp_path, "run", *options, "--jobs", "1").passed()
    call(tmp_path, "export", f"results/{name}", "--formats", "yaml", "-o", "out").passed()
    card = (tmp_path / "out" / "README.md").read_text()
    title = markdown.markdown(card.splitlines()[0], extensions=["tables"])
    assert title.startswith(f"<h1>{html.escape(name, quote=False)}-trial-")
