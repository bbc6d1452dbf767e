"""Fixtures: studies for the dashboard, its server, and a browser."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import answers, chromium, wait_for
from selenium import webdriver

from dashboard.page import CHROMIUM, DRIVER, Page
from dashboard.studies import PLAIN, TINY, measure_front, search
from mbsearch.analysis.choice_effects import MIN_NETWORKS
from mbsearch.study.audit_file import AUDIT
from mbsearch.study.journal import open_journal
from mbsearch.study.latency_file import LATENCY
from mbsearch.study.opening import JOURNAL
from mbsearch.study.retrained_file import RETRAINED
from mbsearch.study.store import create_study


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of studies: complete, failing, empty and damaged ones."""
    folder = tmp_path_factory.mktemp("results")
    search(folder / "second", 3)
    search(folder / "first", MIN_NETWORKS, space=PLAIN)  # enough networks for effects of choices
    search(folder / "failing", 2, fails=True)
    search(folder / "alone", 1, space=TINY.with_settings({"baselines": ()}))
    create_study(open_journal(folder / "empty" / JOURNAL, create=True), "empty")
    shutil.copytree(folder / "second", folder / "torn")
    (folder / "torn" / AUDIT).write_text("{")
    (folder / "torn" / LATENCY).write_text("[]")
    (folder / "torn" / RETRAINED).write_text('{"networks": [{}], "leads": []}')
    measure_front(folder / "second")
    shutil.copytree(folder / "second", folder / "damaged")
    journal = folder / "damaged" / JOURNAL
    journal.write_text(journal.read_text().replace("\n", "\nnot JSON\n", 1))
    return folder


@pytest.fixture(scope="session")
def url(studies: Path) -> Iterator[str]:
    """Start the dashboard from the command line, and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mbsearch", "dashboard", str(studies), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: answers(address), "the server", 60)
            yield address
        finally:
            server.terminate()


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    """Return a headless Chromium."""
    with chromium(str(CHROMIUM), str(DRIVER)) as driver:
        yield driver


@pytest.fixture
def page(browser: webdriver.Chrome, url: str, studies: Path) -> Iterator[Page]:
    """Return a page of the dashboard, and fail if its console has messages at the end."""
    browser.get_log("browser")
    opened = Page(browser, url, studies)
    yield opened
    assert opened.errors() == []
