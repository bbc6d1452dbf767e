"""The server of the dashboard: studies, hosts, exports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import wait_for
from dash import Dash

from dashboard.studies import TINY, search
from mbsearch.cli import app
from mbsearch.dashboard.app import create_app
from mbsearch.dashboard.studies import Library, ResultsFolder


def test_a_replaced_study_of_equal_name_is_read_again(tmp_path: Path) -> None:
    search(tmp_path / "s", 5)
    library = Library(ResultsFolder(tmp_path))
    wait_for(lambda: not library.snapshot("s").loading, "the study")
    assert len(library.snapshot("s").records) > 5
    shutil.rmtree(tmp_path / "s")
    search(tmp_path / "s", 2, space=TINY.with_settings({"baselines": ()}))
    snapshot = library.snapshot("s")
    assert snapshot.problem is None
    assert len(snapshot.records) == 2


def test_only_local_host_names_are_served(studies: Path) -> None:
    client = create_app(Library(ResultsFolder(studies))).server.test_client()
    assert client.get("/", headers={"Host": "127.0.0.1:8050"}).status_code == 200
    assert client.get("/", headers={"Host": "[::1]:8050"}).status_code == 200
    assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "warns"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)]
)
def test_a_warning_is_shown_only_for_a_public_host(
    studies: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    warns: bool,
) -> None:
    served: dict[str, Any] = {}
    monkeypatch.setattr(Dash, "run", lambda _app, **options: served.update(options))
    monkeypatch.setenv("DASH_DEBUG", "true")
    monkeypatch.setenv("HOST", "192.0.2.1")
    app(["dashboard", str(studies), "--host", host], standalone_mode=False)
    assert (served["host"], served["debug"]) == (host, False)
    assert ("SSH tunnel" in capsys.readouterr().err) is warns


def test_the_page_needs_no_torch() -> None:
    code = (
        "import sys, mbsearch.dashboard.app, mbsearch.cli.dashboard; "
        "sys.exit(any(name.partition('.')[0] == 'torch' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
