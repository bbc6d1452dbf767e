"""Studies in a PostgreSQL database, which several machines can read and resume."""

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

from mbsearch.errors import NoStudyError, StorageError
from mbsearch.study.store import StudyStore, create_study

_DRIVER = "postgresql+psycopg"
_PUBLIC = ("host", "port", "user", "dbname", "service", "sslmode")
"""Keys of a URL's query whose values are shown."""

# PostgreSQL's advisory locks are pairs of numbers: this class, and one number for each study.
_LOCK_CLASS = 1_835_168_627
_HOLDER = text(
    "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND classid = :lock_class AND objid = :study AND objsubid = 2"
)


def connect(url: str, *, create: bool) -> RDBStorage:
    """Return a PostgreSQL database as an Optuna storage; writers pass `create`.

    A writer keeps its connections; a reader, which may stay open for long, opens one a query.

    Raises:
        StorageError: the URL is not one of PostgreSQL, psycopg is not installed, or the database
            cannot be reached.
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
                    # Detect connections that the server or a firewall has dropped.
                    "pool_pre_ping": True,
                },
                skip_table_creation=not create,
            )
    except ImportError:
        raise StorageError(
            "--storage: PostgreSQL needs psycopg, which is not installed: "
            "pip install 'mbsearch[postgresql]'"
        ) from None
    except (SQLAlchemyError, StorageInternalError, ValueError) as error:
        if isinstance(error.__cause__, ProgrammingError) and not create:  # no such table
            raise NoStudyError(
                f"{_shown(address)}: expected a study, got a database without any"
            ) from None
        raise StorageError(f"{_shown(address)}: cannot be opened: {_reason(error)}") from None


@contextmanager
def _table_maker(address: URL) -> Iterator[None]:
    """Hold a lock while the tables of a database are created.

    PostgreSQL fails if two processes create them at once. A reader needs the lock too: Optuna
    creates the last table, of the version, if it is missing.
    """
    engine = create_engine(address, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:tables)"), {"tables": _LOCK_CLASS})
        yield


def _address(text: str) -> URL:
    """Parse a database URL; error messages never show a URL that cannot be parsed.

    Raises:
        StorageError: it is not a URL of PostgreSQL.
    """
    expected = "--storage: expected postgresql://USER@HOST/DATABASE"
    if text.count("@") > 1:
        raise StorageError(
            f"{expected}, got a URL with several @; write one in a password as %40, or put the "
            "password into PGPASSWORD or ~/.pgpass"
        )
    try:
        address = make_url(text)
    except (ArgumentError, ValueError):
        raise StorageError(
            f"{expected}, got something else (not shown, as it may hold a password)"
        ) from None
    match address.get_backend_name():
        case "postgresql" | "postgres":
            return address.set(drivername=_DRIVER)
        case "sqlite":
            raise StorageError(
                f"{expected}, got SQLite, which loses trials when several processes "
                "use it; without --storage the study is a journal file, which does not"
            )
        case other:
            raise StorageError(f"{expected}, got a URL of {other!r}")


def _shown(address: URL) -> str:
    """Return a URL for messages, hiding passwords, including those in its query."""
    query = {
        key: value if key in _PUBLIC else "***" for key, value in address.normalized_query.items()
    }
    return str(address.set(drivername="postgresql", query=query))


@contextmanager
def drive_database(url: str, study: str) -> Iterator[tuple[StudyStore, Callable[[], None]]]:
    """Lock a study in a database and open it for writing; create it if it does not exist.

    Yields the study, and a function that raises an error if the connection, and so the lock, was
    lost.

    Raises:
        StorageError: another run holds the lock, or the database fails, now or later.
    """
    storage = connect(url, create=True)
    try:
        with _lock(storage, study) as still_held:
            yield create_study(storage, study), still_held
    except UpdateFinishedTrialError:
        raise StorageError(
            f"study {study!r}: another run has completed a trial of this one; completed trials "
            "are saved, run the same command to resume"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _failed(study, error) from None
    finally:
        storage.engine.dispose()


@contextmanager
def _lock(storage: RDBStorage, study: str) -> Iterator[Callable[[], None]]:
    """Hold the advisory lock of a study, which the server releases when the connection ends."""
    key = {
        "lock_class": _LOCK_CLASS,
        "study": int.from_bytes(blake2b(study.encode(), digest_size=4).digest()) & 0x7FFFFFFF,
    }
    with storage.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # the pool would keep the connection, and so the lock
        # The server drops the connection of a machine that was switched off within a minute.
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
            if lost:  # a second query would fail for another reason
                raise lost[0]

        yield still_held


def _failed(study: str, error: Exception) -> StorageError:
    return StorageError(
        f"study {study!r}: the database failed: {_reason(error)}; completed trials are saved, "
        "run the same command to resume"
    )


def _reason(error: Exception) -> str:
    """Return a database error's message in one line."""
    inner = error.__cause__ if isinstance(error, StorageInternalError) else error
    cause = getattr(inner, "orig", None) or inner or error
    return " ".join(str(cause).split())
