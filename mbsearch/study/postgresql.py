"""Studies in PostgreSQL: read from any machine, and gone on with from any machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from mbsearch.errors import StorageError
from mbsearch.study.store import StudyStore, create_study

_DRIVER = "postgresql+psycopg"
# PostgreSQL's advisory locks are numbers: ours are those of this class, one for each study.
_LOCK_CLASS = 1_835_168_627
_HOLDER = text(
    "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND classid = :lock_class AND objid = :study AND objsubid = 2"
)


def connect(url: str, *, create: bool) -> RDBStorage:
    """Open a PostgreSQL database, for writing with `create`, which makes Optuna's tables.

    A writer keeps its connections; a reader, which may never close, opens one for each question.

    Raises:
        StorageError: it is no PostgreSQL, psycopg is not installed, or it cannot be reached.
    """
    address = _address(url)
    us = f"mbsearch {socket.gethostname()} process {os.getpid()}"
    try:
        with _table_maker(address):
            return RDBStorage(
                address.render_as_string(hide_password=False),
                engine_kwargs={
                    "connect_args": {"application_name": us},
                    "poolclass": QueuePool if create else NullPool,
                    # A connection that the server, or a firewall, has dropped is found before use.
                    "pool_pre_ping": True,
                },
                skip_table_creation=not create,
            )
    except ImportError:
        raise StorageError(
            "--storage: PostgreSQL needs psycopg, which is not installed: "
            "pip install 'mbsearch[postgresql]'"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        if isinstance(error.__cause__, ProgrammingError) and not create:  # no such table
            raise StorageError(f"{address}: expected a study, got a database without any") from None
        raise StorageError(f"{address}: cannot be opened: {_reason(error)}") from None


@contextmanager
def _table_maker(address: URL) -> Iterator[None]:
    """Be the only one who makes the tables of a database, or looks whether they are there.

    PostgreSQL fails when two make them at once, and Optuna makes the last one, of the version,
    for a reader too when it meets a database that is only half made.
    """
    engine = create_engine(address, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:tables)"), {"tables": _LOCK_CLASS})
        yield


def _address(url: str) -> URL:
    expected = "expected postgresql://USER@HOST/DATABASE"
    try:
        address = make_url(url)
    except ArgumentError:
        raise StorageError(f"--storage: {expected}, got {url!r}") from None
    match address.get_backend_name():
        case "postgresql":
            return address.set(drivername=_DRIVER)
        case "sqlite":
            raise StorageError(
                f"--storage: {expected}, got SQLite, which loses trials when several processes "
                "use it; without --storage the study is a journal file, which does not"
            )
        case other:
            raise StorageError(f"--storage: {expected}, got a URL of {other!r}")


@contextmanager
def drive_database(url: str, study: str) -> Iterator[tuple[StudyStore, Callable[[], None]]]:
    """Open a study of a database for its only driver, making it where it does not exist.

    With it comes a function that raises when the connection, and so the lock, was lost.

    Raises:
        StorageError: another driver holds the study, or the database fails, also later.
    """
    storage = connect(url, create=True)
    try:
        with _lock(storage, study) as still_held:
            yield create_study(storage, study), still_held
    except UpdateFinishedTrialError:
        raise StorageError(
            f"study {study!r}: another driver has ended a trial of this one; what was told is "
            "kept, and the same command goes on"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _failed(study, error) from None
    finally:
        storage.engine.dispose()


@contextmanager
def _lock(storage: RDBStorage, study: str) -> Iterator[Callable[[], None]]:
    """Hold a study as its only driver; the server lets go of it with the connection."""
    key = {
        "lock_class": _LOCK_CLASS,
        "study": int.from_bytes(blake2b(study.encode(), digest_size=4).digest()) & 0x7FFFFFFF,
    }
    with storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # not back to the pool, where the lock would stay
        # A driver whose machine was switched off is found dead within a minute, not within hours.
        for setting, seconds in (("idle", 30), ("interval", 10), ("count", 3)):
            connection.execute(text(f"SET tcp_keepalives_{setting} = {seconds}"))
        free = text("SELECT pg_try_advisory_lock(:lock_class, :study)")
        if not connection.execute(free, key).scalar_one():
            holder = connection.execute(_HOLDER, key).scalar() or "another process"
            raise StorageError(
                f"study {study!r}: it is being run by {holder}; wait for it or stop it, "
                "or give this run another --name"
            )

        lost: list[StorageError] = []

        def still_held() -> None:
            if not lost:
                try:
                    connection.execute(text("SELECT 1"))
                except SQLAlchemyError as error:
                    lost.append(_failed(study, error))
            if lost:  # asked again, the connection would give another reason
                raise lost[0]

        yield still_held


def _failed(study: str, error: Exception) -> StorageError:
    return StorageError(
        f"study {study!r}: the database failed: {_reason(error)}; what was told to it is "
        "kept, and the same command goes on"
    )


def _reason(error: Exception) -> str:
    """The cause of a database's error in one line, as its driver says it."""
    inner = error.__cause__ if isinstance(error, StorageInternalError) else error
    cause = getattr(inner, "orig", None) or inner or error
    return " ".join(str(cause).split())
