"""Studies for the dashboard: found by name, and kept up to date in the background."""

from __future__ import annotations

import gc
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.findings import Findings, findings_of
from mbsearch.config.budgets import Budget
from mbsearch.dashboard.downloads import Exports
from mbsearch.dashboard.filter_options import FilterOptions
from mbsearch.dashboard.picture_reader import PictureReader
from mbsearch.errors import MbsearchError, StorageError
from mbsearch.study.artifacts import Artifacts, read_artifacts
from mbsearch.study.environment import STORAGE_VARIABLE
from mbsearch.study.identity import IDENTITY, stored_objectives
from mbsearch.study.opening import (
    JOURNAL,
    RESULTS,
    beside_database,
    journals,
    open_database,
    read_study,
    results_folder,
)
from mbsearch.study.records import TrialRecord
from mbsearch.study.store import StudyStore, load_study, study_names, to_record

_LISTED = 10  # names in a message, at most
_PATIENCE = 1.0  # seconds that a page waits for a study before it shows a notice


class StudySource(Protocol):
    """Interface of a folder or database that holds studies."""

    def names(self) -> Sequence[str]:
        """Return the names of all studies."""

    def open(self, name: str) -> StudyStore:
        """Open a study for reading.

        Raises:
            StorageError: there is no such study, or it is damaged.
        """

    def identity(self, name: str) -> object:
        """Return a value that changes if another study takes over the name."""

    def location(self, name: str) -> str:
        """Return a study's location as text, without passwords."""

    def arguments(self, name: str) -> list[str]:
        """Return the command-line arguments that select a study, except its database."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables that give the database to the command line."""

    def folder(self, name: str) -> Path:
        """Return the folder with a study's files."""


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """A study's folder, or a folder of several studies, newest first."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of the studies' folders."""
        if (self.path / JOURNAL).is_file():
            return [self.path.resolve().name]
        found = journals(self.path)
        newest = sorted(found, key=lambda journal: journal.stat().st_mtime, reverse=True)
        return [journal.parent.name for journal in newest]

    def open(self, name: str) -> StudyStore:
        """Open the study in a folder for reading."""
        return read_study(self.folder(name))

    def identity(self, name: str) -> object:
        """Return the journal's first line, which identifies the study."""
        try:
            with (self.folder(name) / JOURNAL).open("rb") as journal:
                return journal.readline()
        except OSError:
            return None

    def location(self, name: str) -> str:
        """Return the folder's path, quoted for a shell."""
        return shlex.quote(str(self.folder(name)))

    def arguments(self, name: str) -> list[str]:
        """Return the only argument, the folder's path."""
        return [str(self.folder(name))]

    def environment(self) -> dict[str, str]:
        """Return no variables: there is no database."""
        return {}

    def folder(self, name: str) -> Path:
        """Return the folder of the study."""
        return self.path if (self.path / JOURNAL).is_file() else self.path / name


@dataclass(frozen=True, slots=True)
class Database:
    """A database of studies, with their files in folders below `home`."""

    url: str
    first: str | None = None
    home: Path = RESULTS

    def names(self) -> list[str]:
        """Return the names of the studies."""
        names = study_names(open_database(self.url))
        return sorted(names, key=lambda name: name != self.first)

    def open(self, name: str) -> StudyStore:
        """Open a study in the database for reading."""
        return load_study(open_database(self.url), name)

    def identity(self, name: str) -> object:
        """Return the name, because a database does not reuse names."""
        return name

    def location(self, name: str) -> str:
        """Return the study's location as text, without the database's URL and its password."""
        return f"{shlex.quote(str(self.folder(name)))} --storage URL"

    def arguments(self, name: str) -> list[str]:
        """Return the study's folder."""
        return [str(self.folder(name))]

    def environment(self) -> dict[str, str]:
        """Return a variable with the URL, which is no argument as it may contain a password."""
        return {STORAGE_VARIABLE: self.url}

    def folder(self, name: str) -> Path:
        """Return the folder to which the command line writes the study's files."""
        return self.home / name


@dataclass(frozen=True)
class Snapshot:
    """The contents of a study at one point in time.

    Args:
        name: of the study.
        location: its name on the command line.
        folder: of its files.
        version: changes with any other field.
        records: of all trials.
        settings: attributes of the stored study.
        measured: contents of the files beside the study.
        budgets: that the dashboard was started with, if any.
        problem: the error, if the study cannot be read.
        loading: whether the study has not been read yet.
        answers: those that were found, by budget.
    """

    name: str
    location: str
    folder: Path
    version: int = 0
    records: tuple[TrialRecord, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    measured: Artifacts = field(default_factory=Artifacts)
    budgets: tuple[Budget, ...] = ()
    problem: str | None = None
    loading: bool = False
    answers: dict[Budget, Answer | str] = field(init=False, repr=False, default_factory=dict)

    @cached_property
    def findings(self) -> Findings:
        """The data from which answers are computed."""
        return findings_of(self.records, self.settings, self.measured.retrained)

    @property
    def metric(self) -> str:
        """The key of the cost that the study was searched for."""
        return stored_objectives(self.settings)[1]

    @cached_property
    def filter_options(self) -> FilterOptions:
        """The values that the filters offer."""
        return FilterOptions.of(self.records)

    @cached_property
    def asked(self) -> tuple[Budget, ...]:
        """The budgets that the dashboard was started with, on costs that the study has."""
        if not self.records:
            return self.budgets
        known = self.findings.known_costs
        return tuple(each for each in self.budgets if each.bounds().keys() <= known)

    @cached_property
    def questions(self) -> tuple[Budget, ...]:
        """The budgets whose best networks are shown by default; empty if there are none yet."""
        findings = self.findings
        asked = self.asked or findings.requested
        return asked or tuple(filter(None, [findings.main_budget]))


class _Reader:
    """Reads one study; a trial that no longer runs is decoded only once."""

    def __init__(self, source: StudySource, name: str, budgets: tuple[Budget, ...]) -> None:
        self._source, self._name = source, name
        self._lock = threading.Lock()
        self._store: StudyStore | None = None
        self._ended: dict[tuple[str, int], TrialRecord | None] = {}
        self._seen: object = None
        self._identity: object = None
        self.snapshot = Snapshot(
            name, source.location(name), source.folder(name), budgets=budgets, loading=True
        )

    def refresh(self) -> None:
        """Read changes from the study's storage."""
        with self._lock:
            try:
                self._read()
            except MbsearchError as error:
                self._show(problem=str(error))
            except Exception as error:  # a damaged storage makes Optuna raise anything
                self._store = None
                location = self.snapshot.location
                self._show(problem=f"{location}: cannot be read any more: {error!r}")

    def _read(self) -> None:
        identity = self._source.identity(self._name)
        if identity != self._identity:  # the study was deleted, and may have been replaced
            self._store, self._identity = None, identity
        if self._store is None:
            with _garbage_collector_off():
                self._store, self._ended, self._seen = self._source.open(self._name), {}, None
                self._update(self._store)
        else:
            self._update(self._store)

    def _update(self, store: StudyStore) -> None:
        """Decode the changed trials, and replace the snapshot if there are any."""
        running, added = [], False
        for study in (store.baselines, store.search):
            for trial in study.get_trials(deepcopy=False):
                key = (study.study_name, trial.number)
                if key in self._ended:
                    continue
                record = to_record(trial)
                if trial.state.is_finished():
                    self._ended[key], added = record, True
                elif record is not None:
                    running.append(record)
        seen = [r.trial for r in running], store.predictions()
        if added or seen != self._seen or self.snapshot.problem:
            self._seen = seen
            records = [r for r in (*self._ended.values(), *running) if r is not None]
            self._show(records=tuple(store.joined(records)), settings=store.settings())
        measured = read_artifacts(self.snapshot.folder, self.snapshot.settings.get(IDENTITY))
        if measured != self.snapshot.measured:
            self._show(measured=measured)

    def _show(self, **changes: Any) -> None:
        fresh = {"problem": None, "loading": False, "version": self.snapshot.version + 1}
        new = replace(self.snapshot, **{**fresh, **changes})
        if new.problem is None or new.problem != self.snapshot.problem:
            self.snapshot = new


@contextmanager
def _garbage_collector_off() -> Iterator[None]:
    """Disable garbage collection in this block, and exempt its objects from later collections.

    A study lives as long as the process. Ten thousand trials are millions of objects: scanning them
    took more than half of the reading time, and a part of every later request.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


class Library:
    """Thread-safe snapshots of all studies of a source.

    A study is read in the background, so that the first request does not wait for it.

    Args:
        source: of the studies.
        budgets: answered instead of each study's own.
    """

    def __init__(self, source: StudySource, budgets: Sequence[Budget] = ()) -> None:
        self._source, self._budgets = source, tuple(budgets)
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}
        self.exports = Exports()
        self.pictures = PictureReader()
        self._first_reads: dict[str, threading.Thread] = {}

    def names(self) -> list[str]:
        """Return the names of all studies."""
        return list(self._source.names())

    def arguments(self, name: str) -> list[str]:
        """Return the command-line arguments that select a study, except its database."""
        return self._source.arguments(name)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that give the database to the command line."""
        return self._source.environment()

    def snapshot(self, name: str | None, patience: float = _PATIENCE) -> Snapshot:
        """Return the current snapshot of a study, by default the first.

        A name that there is no study of has a snapshot with the problem.

        Args:
            name: of the study.
            patience: seconds to wait for the first reading.
        """
        known = self.names()
        if not known:
            return Snapshot("", "", RESULTS, problem="expected a study, got none")
        name = name or known[0]
        if name not in known:
            listed = ", ".join(known[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
            problem = f"No study of this name: expected one of {listed}, got {name!r}."
            return Snapshot(name, "", RESULTS, problem=problem)
        with self._lock:
            reader = self._readers.get(name)
            if reader is None:
                reader = self._readers[name] = _Reader(self._source, name, self._budgets)
                thread = threading.Thread(target=reader.refresh, daemon=True)
                self._first_reads[name] = thread
                thread.start()
        first = self._first_reads[name]
        if first.is_alive():
            first.join(patience)
        else:
            reader.refresh()
        return reader.snapshot


def open_source(results: Path | None, url: str | None) -> StudySource:
    """Return the source of studies that the command line's options select.

    Raises:
        StorageError: there is no study.
    """
    if url is not None:
        first = None if results is None else results.name
        source = Database(url, first, beside_database(results))
        known = source.names()
        if not known or (first is not None and first not in known):
            raise StorageError(
                f"expected {'a study' if first is None else f'a study {first!r}'} in the database, "
                f"got {', '.join(known) or 'none'}"
            )
        return source
    path = results or RESULTS
    results_folder(path)
    return ResultsFolder(path)
