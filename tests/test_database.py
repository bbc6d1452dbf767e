"""Studies in a real PostgreSQL."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from optuna.storages import RDBStorage

import mbsearch as mb
from mbsearch import cli
from mbsearch.analysis.tables import to_frame
from mbsearch.config.specification import load_specification
from mbsearch.dashboard.studies import open_source
from mbsearch.errors import StorageError
from mbsearch.progress import Progress
from mbsearch.study.audit_file import MULT_ADDS, PROXY, Audit, RankAgreement
from mbsearch.study.latency_file import Latency, LatencyFile
from mbsearch.study.opening import location, read_study
from mbsearch.study.postgresql import connect, drive_database
from mbsearch.study_run import RunResult, run

TINY = load_specification("tiny")
TRUTH = {
    TINY.decode(params).fingerprint: 0.5 + i / 1000
    for i, params in enumerate(TINY.enumerate_params())
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(TRUTH))
    return path


def search(folder: Path, table: Path, storage: str | None, trials: int = 8) -> RunResult:
    return run(TINY, trials=trials, folder=folder, storage=storage, table=table, jobs=1)


def test_a_study_is_the_same_in_a_database_and_in_a_journal(
    tmp_path: Path, table: Path, postgres: str
) -> None:
    here = search(tmp_path / "journal", table, None)
    there = search(tmp_path / "base", table, postgres)
    times = ["started", "ended", "recipe"]
    assert (
        to_frame(there.records)
        .drop(columns=times)
        .equals(to_frame(here.records).drop(columns=times))
    )
    assert not (tmp_path / "base" / "journal.log").exists()
    assert (tmp_path / "base" / "trials.csv").exists()


def test_a_study_in_a_database_is_extended_and_read_by_name(
    tmp_path: Path, table: Path, postgres: str
) -> None:
    first = search(tmp_path / "one", table, postgres, trials=4)
    both = search(tmp_path / "elsewhere" / "one", table, postgres, trials=7)
    assert both.records[:4] == first.records
    assert len(both.records) == 7
    assert read_study(None, postgres).records() == both.records  # the only one
    search(tmp_path / "two", table, postgres, trials=2)
    assert len(mb.load_results("one", storage=postgres)) == 7
    assert len(mb.load_results(tmp_path / "two", storage=postgres)) == 2
    with pytest.raises(StorageError, match="expected one study in the storage, got one, two"):
        mb.load_results(storage=postgres)
    with pytest.raises(StorageError, match="expected a study 'three' in the storage, got one, two"):
        mb.load_results("three", storage=postgres)


def test_several_processes_create_and_read_tables_at_once(postgres: str) -> None:
    def read() -> RDBStorage:
        while True:
            try:
                return connect(postgres, create=False)
            except StorageError as error:
                if "got a database without any" not in str(error):
                    raise

    with ThreadPoolExecutor(8) as threads:
        readers = [threads.submit(read) for _ in range(4)]
        makers = [threads.submit(connect, postgres, create=True) for _ in range(4)]
        storages = [future.result() for future in readers + makers]
    for storage in storages:
        assert storage.get_all_studies() == []
        storage.engine.dispose()


def test_the_command_line_reads_and_writes_a_database(
    table: Path, postgres: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(table.parent)

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main([*arguments, "--storage", postgres])
        captured = capsys.readouterr()
        assert end.value.code == 0, captured.err
        return captured.out

    call("run", "--space", "tiny.yaml", "--trials", "5", "--jobs", "1", "--table", str(table))
    front = json.loads(call("status", "--json"))
    assert front == json.loads(call("status", "results/tiny", "--json"))
    best = call("export", "--trial", str(front[-1]["trial"]))
    Path("best.yaml").write_text(best)
    network = mb.load("best.yaml")
    assert isinstance(network, mb.Architecture)
    assert TRUTH[network.fingerprint] == front[-1]["accuracy"]
    timed = Latency("torch", 1, 10, 0.002, 0.001, 0.003)
    monkeypatch.setattr(
        "mbsearch.latency.benchmark.measure_latency", lambda networks, **_: [timed] * len(networks)
    )
    call("latency", "tiny", "--engine", "torch")
    assert network.fingerprint in LatencyFile.read(Path("results/tiny")).by_metric()["torch_us"]
    call("latency", "far/away/tiny", "--engine", "torch")  # as its run said --results far/away
    assert network.fingerprint in LatencyFile.read(Path("far/away/tiny")).by_metric()["torch_us"]
    rows = [
        RankAgreement(score, 0.5, 0.25, 0.75, (0.4, 0.3, 0.2), 0.02) for score in (PROXY, MULT_ADDS)
    ]
    audit = Audit("tiny", "table", "truth", 6, 1.0, None, rows)
    audit.write(Path("far/away/tiny"))
    assert "audit: the proxy ranks" in call("status", "far/away/tiny")
    assert "audit" not in call("status", "tiny")
    source = open_source(Path("far/away/tiny"), postgres)
    assert source.names() == ["tiny"]
    assert source.folder("tiny") == Path("far/away/tiny")
    assert source.location("tiny") == "far/away/tiny --storage URL"
    assert location(Path("far/away/tiny"), postgres) == "far/away/tiny --storage URL"


def test_one_driver_a_study_also_in_a_database(postgres: str) -> None:
    with drive_database(postgres, "one"):
        us = rf"'one': it is being run by mbsearch .* process {os.getpid()}; .* --name"
        with pytest.raises(StorageError, match=us), drive_database(postgres, "one"):
            pass
        with drive_database(postgres, "two"):
            pass
    with drive_database(postgres, "one"):  # given back
        pass


def test_a_driver_that_lost_its_lock_stops_with_an_error(
    tmp_path: Path, table: Path, postgres: str
) -> None:
    def cut(_event: Progress) -> None:
        with psycopg.connect(postgres) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            )

    with pytest.raises(StorageError, match=r"'cut': the database failed: .*terminat.* to resume"):
        run(
            TINY,
            trials=8,
            folder=tmp_path / "cut",
            storage=postgres,
            table=table,
            jobs=1,
            on_progress=cut,
        )
    assert len(search(tmp_path / "cut", table, postgres).records) == 8


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///study.db", "got SQLite, which loses trials"),
        ("mysql://somebody@localhost/studies", "got a URL of 'mysql'"),
        ("study.db", "--storage: expected postgresql://USER@HOST/DATABASE, got something else"),
        ("postgresql://u:secret@127.0.0.1:1/db", r"//u:\*\*\*@127.* cannot be opened: .*refused"),
    ],
)
def test_what_is_no_postgresql_is_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as caught, drive_database(url, "one"):
        pass
    assert "secret" not in str(caught.value)
    with pytest.raises(StorageError, match=message):
        read_study(None, url)


def test_a_database_without_a_study_is_named(postgres: str) -> None:
    with pytest.raises(StorageError, match="expected a study, got a database without any"):
        read_study(None, postgres)


def test_without_psycopg_the_command_that_installs_it_is_said(
    monkeypatch: pytest.MonkeyPatch, postgres: str
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r"pip install 'mbsearch\[postgresql\]'"):
        read_study(None, postgres)
