"""Passwords of a database are in no message and in no list of processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from reports.command_line import call, search

SECRET = "correct-horse"
# No server listens there.
NOWHERE = "127.0.0.1:1"
UNREACHABLE = [
    f"postgresql://u:{SECRET}@{NOWHERE}/db",
    f"postgresql://u@{NOWHERE}/db?password={SECRET}",
    f"postgresql://{NOWHERE}/db?user=u&password={SECRET}&sslmode=disable",
    f"postgresql://u@{NOWHERE}/db?sslpassword={SECRET}",
    f"postgresql+psycopg://u:{SECRET}@{NOWHERE}/db",
    f"postgres://u:{SECRET}@{NOWHERE}/db",
    f"postgresql:///db?host=127.0.0.1&port=1&password={SECRET}",
    f"postgresql://u@{NOWHERE}/db?pasword={SECRET}",
]
MISTYPED = [
    f"postgresql://u:p@{SECRET}@{NOWHERE}/db",
    f"postgresql://u:p@{SECRET}/word@{NOWHERE}/db",
    f"postgresql:/u:{SECRET}@{NOWHERE}/db",
    f"postgresql//u:{SECRET}@{NOWHERE}/db",
    f"postgresql://u:{SECRET}:{NOWHERE}/db",
    f"postgresql://u:{SECRET}@127.0.0.1:54x/db",
    f"postgresql://u:{SECRET}/{NOWHERE}/db",
    f"u:{SECRET}@{NOWHERE}/db",
    f" postgresql://u:{SECRET}@{NOWHERE}/db",
    f"mysql://u:{SECRET}@{NOWHERE}/db",
    f"sqlite:///u:{SECRET}@db",
    f"PGPASSWORD={SECRET}",
]


@pytest.mark.parametrize("url", UNREACHABLE)
def test_the_address_of_a_database_is_shown_without_the_password(tmp_path: Path, url: str) -> None:
    ran = call(tmp_path, "status", "--storage", url)
    assert "error: postgresql://" in ran.refused()
    assert "127.0.0.1" in ran.text
    assert SECRET not in ran.text
    assert SECRET not in search(tmp_path, "--storage", url, trials=1).refused()


@pytest.mark.parametrize("url", MISTYPED)
def test_a_mistyped_address_is_not_shown(tmp_path: Path, url: str) -> None:
    ran = call(tmp_path, "status", "--storage", url)
    assert "--storage: expected postgresql://USER@HOST/DATABASE" in ran.refused()
    assert SECRET not in ran.text
    assert SECRET not in search(tmp_path, "--storage", url, trials=1).refused()


PASSWORD = "p@ss /word"


@pytest.fixture(scope="module")
def guarded(postgres_server: str) -> Iterator[str]:
    """The URL of a database whose user needs a password, without the password."""
    import psycopg

    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'")
        server.execute("CREATE DATABASE guarded OWNER guarded")
        [rules] = server.execute("SHOW hba_file").fetchone() or ()
        before = Path(rules).read_text()
        Path(rules).write_text(f"local all guarded scram-sha-256\n{before}")
        server.execute("SELECT pg_reload_conf()")
        yield postgres_server.replace("postgres:@", "guarded@").replace("/postgres?", "/guarded?")
        Path(rules).write_text(before)
        server.execute("SELECT pg_reload_conf()")


@pytest.mark.slow
def test_a_password_is_accepted_from_every_place(guarded: str, tmp_path: Path) -> None:
    ways: dict[str, tuple[str, dict[str, str]]] = {}
    ways["escaped"] = guarded.replace("guarded@", f"guarded:{quote(PASSWORD, safe='')}@"), {}
    ways["query"] = f"{guarded}&password={quote(PASSWORD)}", {}
    ways["PGPASSWORD"] = guarded, {"PGPASSWORD": PASSWORD}
    passwords = tmp_path / "pgpass"
    passwords.write_text(f"*:*:guarded:guarded:{PASSWORD}\n")
    passwords.chmod(0o600)
    ways["pgpass"] = guarded, {"PGPASSFILE": str(passwords)}
    host = guarded.partition("host=")[2]
    services = tmp_path / "services"
    lines = ("[studies]", f"host={host}", "user=guarded", "dbname=guarded", f"password={PASSWORD}")
    services.write_text("\n".join(lines) + "\n")
    ways["service"] = "postgresql:///?service=studies", {"PGSERVICEFILE": str(services)}
    options = ("--storage", guarded)
    refused = search(tmp_path, *options, trials=1).refused()
    assert "password" in refused  # fe_sendauth: no password supplied
    assert "guarded@" in refused
    search(tmp_path, *options, trials=1, PGPASSWORD=PASSWORD).passed()
    for way, (url, environment) in ways.items():
        ran = call(tmp_path, "status", **environment, MBSEARCH_STORAGE=url)
        assert "1 complete" in ran.passed(), way
        assert PASSWORD not in ran.text
    wrong = call(tmp_path, "status", *options, PGPASSWORD="wrong").refused()
    assert "password authentication failed" in wrong


def test_a_download_does_not_show_the_password_in_the_list_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mbsearch.dashboard.downloads import ExportJob, zipped_export
    from mbsearch.dashboard.studies import Database, Library
    from mbsearch.errors import ExportError

    started: dict[str, Any] = {}

    class Process(nullcontext["Process"]):
        """A command that fails."""

        returncode = 2

        def __init__(self, command: list[str], **how: Any) -> None:
            super().__init__(self)
            started.update(command=command, **how)
            self.stderr = ["error: no study\n"]

        def kill(self) -> None:
            """Do nothing: it has ended."""

    monkeypatch.setattr(subprocess, "Popen", Process)
    for url in UNREACHABLE[:3]:
        library = Library(Database(url))
        with pytest.raises(ExportError, match="no study"):
            zipped_export(library.arguments("one"), 3, ExportJob(("yaml",)), library.environment())
        assert started["command"][:4] == [sys.executable, "-m", "mbsearch", "export"]
        assert SECRET not in " ".join(started["command"])
        assert started["env"]["MBSEARCH_STORAGE"] == url
