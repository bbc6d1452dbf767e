"""Studies made by earlier versions open: status, report, export, dashboard, resume.

tests/studies/ holds two small studies, named after the commits that made them, each with the output
of `mbsearch status --json` of that commit.
"""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from reports.in_process import training_in_this_process

from mbsearch import cli
from mbsearch.space.architecture import Architecture
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import parse_document

STUDIES = Path(__file__).parent / "studies"
NAMES = ["made_by_88dd171", "made_by_0e54997"]
# Options of the run that made each study.
RUNS = {"made_by_88dd171": [], "made_by_0e54997": ["--finals", "0"]}


@pytest.fixture(params=NAMES)
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an earlier study."""
    shutil.copytree(STUDIES / request.param, tmp_path / "tiny")
    return tmp_path / "tiny"


def mbsearch(*arguments: str) -> str:
    printed = io.StringIO()
    with training_in_this_process(), redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert not ended.value.code
    return printed.getvalue()


def test_status_of_an_earlier_study_is_the_same(study: Path) -> None:
    found = json.loads(mbsearch("status", str(study), "--json"))
    assert found == json.loads((study / "status.json").read_text())


def test_an_earlier_study_is_exported_and_reported(study: Path) -> None:
    before = json.loads((study / "status.json").read_text())
    text = mbsearch("export", str(study), "--trial", str(before[-1]["trial"]))
    network = read_architecture(parse_document(text, "network.yaml"))
    assert isinstance(network, Architecture)
    assert network.resolution.plain == before[-1]["resolution"]
    mbsearch("report", str(study), "-o", str(study / "report.html"))
    assert f"trial {before[-1]['trial']}" in (study / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_study_resumes(name: str, tmp_path: Path) -> None:
    shutil.copytree(STUDIES / name, tmp_path / "tiny")
    options = ["--space", "tiny.yaml", "--trials", "7", "--jobs", "1", "--seed", "0", "--no-export"]
    mbsearch("run", *options, *RUNS[name], "--results", str(tmp_path))
    found = json.loads(mbsearch("status", str(tmp_path / "tiny"), "--json"))
    before = {
        row["trial"]: row["accuracy"]
        for row in json.loads((STUDIES / name / "status.json").read_text())
    }
    same = [row for row in found if row["trial"] in before]
    assert same
    assert all(row["accuracy"] == before[row["trial"]] for row in same if not row["promoted"])
    trials = (tmp_path / "tiny" / "trials.csv").read_text().splitlines()
    assert sum(",search," in line for line in trials) == 7
