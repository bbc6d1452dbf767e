"""Mistakes end with exit code 2 and one message: place, expected and actual value."""

# ruff: noqa: E501 - one line a case
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mbsearch.cli import main

BASE = """name: s
resolution: {choices: [64, 96]}
stem: {channels: 16}
stages:
  - {block: inverted_residual, channels: 24, stride: 2, expansion: {choices: [3, 6]}}
head: {channels: 64}
baselines:
  - {reference: mobilenet_v2, alpha: [0.35], resolution: [96]}
"""

# case: (text of BASE, its replacement, words of the message)
YAML = {
    "text for a number": ("resolution: {choices: [64, 96]}", "resolution: big", "s.yaml:2: resolution: expected an integer from 1 to 4096 for a square, or height x width of another rectangle, such as 96x160, got 'big'"),
    "number for a mapping": ("stem: {channels: 16}", "stem: 16", "s.yaml:3: stem: expected a mapping, got 16"),
    "mapping for a list": ("stages:\n  - {", "stages:\n  {", "s.yaml:4: stages: expected a list of stages, got a mapping"),
    "unknown key": ("head:", "haed:", "s.yaml:6: haed: unknown key"),
    "unknown key of a stage": ("stride: 2", "strid: 2", "did you mean 'stride'?"),
    "misspelt block": ("inverted_residual", "inverted_residul", "did you mean 'inverted_residual'?"),
    "block no name": ("block: inverted_residual", "block: {kind: separable}", "stages.0.block: expected one of standard"),
    "one choice no name": ("block: inverted_residual", "block: {choices: [[a]]}", "expected one of standard"),
    "no block": ("block: inverted_residual, ", "", "stages.0.block: expected one of standard"),
    "empty choices": ("[3, 6]", "[]", "stages.0.expansion.choices: expected a list of options, got an empty list"),
    "choices no list": ("[3, 6]", "3", "stages.0.expansion.choices: expected a list of options, got 3"),
    "choices doubled": ("[3, 6]", "[3, 3]", "expected distinct options, got 3 twice"),
    "choices of two kinds": ("[3, 6]", "[3, {a: 1}]", "expected options of one kind"),
    "choices beside a key": ("{choices: [3, 6]}", "{choices: [3], x: 1}", "expected no other key beside 'choices'"),
    "choices in choices": ("[3, 6]", "[3, {choices: [6]}]", "expected options of one kind"),
    "one bad option": ("[3, 6]", "[3, 0]", "s.yaml:5: stages.0.expansion.choices.1: expected a number >= 1, got 0"),
    "negative channels": ("channels: 24", "channels: -24", "stages.0.channels: expected a number >= 1, got -24"),
    "channels missing": ("channels: 24, ", "", "stages.0.channels: expected this key, which is missing"),
    "even kernel": ("stride: 2", "stride: 2, kernel: 4", "stages.0.kernel: expected an odd number, got 4"),
    "unknown activation": ("stride: 2", "stride: 2, activation: relu7", "expected one of relu, relu6, hard_swish, got 'relu7'"),
    "true for a number": ("stride: 2", "stride: true", "stages.0.stride: expected an integer, got true"),
    "key twice": ("channels: 24", "channels: 24, channels: 32", "s.yaml:5: stages.0.channels: expected every key once"),
    "no YAML": ("stem: {", "stem: {{", "s.yaml:"),
    "empty stages": ("  - {block: inverted_residual, channels: 24, stride: 2, expansion: {choices: [3, 6]}}\n", "  []\n", "stages: expected a list of stages, got an empty list"),
    "unknown reference": ("mobilenet_v2", "mobilenet_v22", "s.yaml:8: baselines.0.reference: expected one of"),
    "objectives no list": ("head:", "objectives: 5\nbudgets: [1M]\nhead:", "s.yaml:6: objectives: expected accuracy, balanced_accuracy"),
    "objectives a mapping": ("head:", "objectives: {accuracy: 1, params: 2}\nbudgets: [1M]\nhead:", "s.yaml:6: objectives: expected accuracy, balanced_accuracy"),
    "objectives empty": ("head:", "objectives:\nbudgets: [1M]\nhead:", "s.yaml:6: objectives: expected accuracy, balanced_accuracy"),
    "objective no text": ("head:", "objectives: [accuracy, [params]]\nbudgets: [1M]\nhead:", "s.yaml:6: objectives.1: expected "),
    "range without end": ("head:", "alpha: {range: [0.1, 1.0e+30], step: 0.01}\nhead:", "alpha: expected at most 1,000 values"),
    "limit no quantity": ("head:", "limits: {mult_adds: lots}\nhead:", "limits.mult_adds: expected a positive number"),
    "proxy key": ("head:", "proxy: {epoch: 3}\nhead:", "s.yaml:6: proxy.epoch: unknown key"),
    "proxy key with its keys": ("head:", "proxy: {epohcs: 3}\nhead:", "did you mean 'epochs'?"),
    "baseline key": ("alpha: [0.35]", "alfa: [0.35]", "s.yaml:8: baselines.0.alfa: unknown key, expected one of reference, alpha, resolution"),
    "baseline without pixels": ("resolution: [96]", "resolution: [96, 8]", "s.yaml:8: baselines.0.resolution.1: mobilenet_v2: stages"),
    "tag of no number": ("name: s", "name: !!timestamp 2024-02-30", "s.yaml:1: name: expected a value without the tag !!timestamp, got 2024-02-30"),
    "tag that does not fit": ("stride: 2", "stride: !!int 2x", "s.yaml:5: stages.0.stride: expected an integer, got '2x'"),
    "truth that is none": ("channels: 16", "channels: !!bool maybe", "s.yaml:3: stem.channels: expected true or false, got 'maybe'"),
    "proxy out of range": ("head:", "proxy: {resolution_scale: 2}\nhead:", "proxy.resolution_scale: expected a number <= 1, got 2"),
    "classes are no choice": ("head:", "num_classes: {choices: [10, 20]}\nhead:", "num_classes: expected one value"),
}  # fmt: skip


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command line, which must fail; return its message on one line."""
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    captured = capsys.readouterr()
    assert exit_.value.code == 2, captured.err
    assert "Traceback" not in captured.err
    assert captured.err.count("error:") == 1
    return " ".join(captured.err.split())


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_space(text: str) -> str:
    Path("s.yaml").write_text(text)
    return "s.yaml"


def test_the_base_is_valid() -> None:
    with pytest.raises(SystemExit) as main_exit:
        main(["count", write_space(BASE)])
    assert main_exit.value.code == 0


@pytest.mark.parametrize("case", YAML)
def test_bad_yaml(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, expected = YAML[case]
    assert old in BASE
    message = run_cli(capsys, "count", write_space(BASE.replace(old, new, 1)))
    assert expected in message


def test_choices_between_whole_architectures(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "count", write_space("choices: [{stem: {channels: 8}}]"))
    assert "s.yaml:1: choices: expected the keys of an architecture" in message


@pytest.mark.parametrize("option", ["--data=photos", "--device=cpu", "--refine=0.5"])
def test_a_table_with_an_option_of_trainings(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--table", "t.json", option)
    assert f"{option.split('=')[0]}: expected no --table with it" in message


def test_finals_of_more_time_than_a_space_may_have(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--finals", "200h")
    assert "--finals: expected at most 166h, got 200h" in message
    assert not Path("results").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_a_study_name_that_is_not_one_folder(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--name", name)
    assert f"results: expected a study name that can name a folder, got {name!r}" in message
    file = write_space(BASE.replace("name: s", f'name: "{name}"'))
    message = run_cli(capsys, "audit", "--space", file)
    where = "results: expected a study name" if name else "s.yaml:1: name: expected a name"
    assert where in message
    assert f"got {name!r}" in message


def test_an_unknown_device_creates_no_study(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--device", "tpu9")
    assert "device: expected cpu, or cuda" in message
    assert not Path("results").exists()


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results/s").mkdir(parents=True)
    Path("results/s/journal.log").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = run_cli(capsys, "dashboard", "--port", str(port))
    assert f"--host 127.0.0.1 --port {port}: expected a free address" in message


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'mobilenet_v2'?" in run_cli(capsys, "count", "mobilnet_v2")


def test_empty_file(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "count", write_space(""))
    assert "s.yaml: expected a mapping, got an empty file" in message


def test_binary_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").write_bytes(b"\x89PNG\xff\xfe")
    assert "s.yaml:1: expected a YAML file in UTF-8 or UTF-16, got byte 0x89" in run_cli(
        capsys, "count", "s.yaml"
    )


def test_a_file_with_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected a mapping, got a list" in run_cli(capsys, "count", write_space("[1, 2]"))


def test_a_folder_does_not_hide_a_packaged_space(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of results has folders with the names of spaces."""
    Path("tiny").mkdir()
    for arguments in (["spaces"], ["count", "tiny"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert "tiny" in capsys.readouterr().out


def test_a_folder_instead_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.yaml").mkdir()
    assert "expected a YAML file, got a folder" in run_cli(capsys, "count", "s.yaml")


def test_an_architecture_instead_of_a_space(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "mobilenet_v2")
    assert "expected a search space, got an architecture" in message


def test_alpha_out_of_range(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "count", "mobilenet_v2", "--alpha", "-1")
    assert "alpha: expected a number > 0, got -1" in message


def test_alpha_for_a_space(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "count", "tiny.yaml", "--alpha", "1")
    assert "expected an architecture" in message


def test_strides_that_leave_no_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "count", "mobilenet_v1", "--resolution", "8")
    assert "stride 2 leaves no pixels" in message


def test_no_feasible_network(capsys: pytest.CaptureFixture[str]) -> None:
    text = BASE.replace("head:", "limits: {mult_adds: 10k}\nhead:")
    message = run_cli(capsys, "run", "--space", write_space(text))
    assert "expected a space with a network within them, got none" in message
    assert "is above the limit of 10,000" in message


def test_unknown_limit(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--limit", "mult_add=1M")
    assert "did you mean 'mult_adds'?" in message


def test_unknown_evaluator(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--evaluator", "supernets")
    assert "--evaluator: expected one of training, supernet, got 'supernets'" in message
    assert "did you mean 'supernet'" in message


def test_unknown_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--sampler", "tpee")
    assert "did you mean 'tpe'?" in message


def test_unknown_data(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "run", "--space", "tiny", "--data", "cifar11")
    assert "cifar10" in message


def test_missing_data_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "photos/dogs" in run_cli(capsys, "run", "--space", "tiny", "--data", "photos/dogs")


def test_no_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert "results: expected the folder of a study" in run_cli(capsys, "status")
    Path("results").mkdir()
    assert "got one without journal.log" in run_cli(capsys, "status")


def test_a_journal_that_is_another_file(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Path("results/s/journal.log")
    journal.parent.mkdir(parents=True)
    journal.write_text("{}{\nnot JSON\n{}\n")
    message = run_cli(capsys, "status", "results/s")
    assert "journal.log: expected the journal of a study of mbsearch, got another file" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_results_folder_that_is_not_writable(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").mkdir(mode=0o555)
    assert "cannot be written" in run_cli(capsys, "run", "--space", "tiny")


def test_results_folder_that_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").write_text("")
    assert "cannot be written" in run_cli(capsys, "run", "--space", "tiny")


def test_export_with_two_selections(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "export", "--trial", "1", "--max-mult-adds", "1M")
    assert "expected --trial or --max-mult-adds, got both" in message


def test_quantity(capsys: pytest.CaptureFixture[str]) -> None:
    message = run_cli(capsys, "export", "--max-params", "many")
    assert "--max-params: expected a positive number" in message
