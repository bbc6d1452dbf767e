"""Studies as the page sees them: found by name, read in the background, kept up to date."""

from __future__ import annotations

import gc
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mbsearch.analysis.findings import Findings, findings_of
from mbsearch.config.budgets import Budget
from mbsearch.errors import MbsearchError, StorageError
from mbsearch.study.artifacts import Artifacts, read_artifacts
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

_PATIENCE = 1.0  # seconds that a page waits for a study to be read before it says so


class Shelf(Protocol):
    """Where studies stand."""

    def names(self) -> Sequence[str]:
        """Every study that is there now."""

    def open(self, name: str) -> StudyStore:
        """Open one for reading.

        Raises:
            StorageError: it is not there, or damaged.
        """

    def identity(self, name: str) -> object:
        """Something that is another for another study of the same name."""

    def location(self, name: str) -> str:
        """What a study is called on the command line, as a page may show it."""

    def arguments(self, name: str) -> list[str]:
        """The arguments of the command line that name a study."""

    def folder(self, name: str) -> Path:
        """Where the files of a study stand, if it has any."""


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """The folder of a study, or one that holds the folders of several: newest first."""

    path: Path

    def names(self) -> list[str]:
        """Names of the folders."""
        if (self.path / JOURNAL).is_file():
            return [self.path.resolve().name]
        found = journals(self.path)
        newest = sorted(found, key=lambda journal: journal.stat().st_mtime, reverse=True)
        return [journal.parent.name for journal in newest]

    def open(self, name: str) -> StudyStore:
        """Open the study of a folder."""
        return read_study(self.folder(name))

    def identity(self, name: str) -> object:
        """The journal's first line, which names the process that began it."""
        try:
            with (self.folder(name) / JOURNAL).open("rb") as journal:
                return journal.readline()
        except OSError:
            return None

    def location(self, name: str) -> str:
        """The folder's path."""
        return shlex.quote(str(self.folder(name)))

    def arguments(self, name: str) -> list[str]:
        """The folder's path."""
        return [str(self.folder(name))]

    def folder(self, name: str) -> Path:
        """The folder of the study."""
        return self.path if (self.path / JOURNAL).is_file() else self.path / name


@dataclass(frozen=True, slots=True)
class Database:
    """A database that holds studies; the one asked for comes first. Files are below `home`."""

    url: str
    first: str | None = None
    home: Path = RESULTS

    def names(self) -> list[str]:
        """Names of the studies."""
        names = study_names(open_database(self.url))
        return sorted(names, key=lambda name: name != self.first)

    def open(self, name: str) -> StudyStore:
        """Open a study."""
        return load_study(open_database(self.url), name)

    def identity(self, name: str) -> object:
        """Names of a database's studies are theirs for good."""
        return name

    def location(self, name: str) -> str:
        """The study by its folder; the address of the database may hold a password."""
        return f"{shlex.quote(str(self.folder(name)))} --storage URL"

    def arguments(self, name: str) -> list[str]:
        """The study by its folder, and its database."""
        return [str(self.folder(name)), "--storage", self.url]

    def folder(self, name: str) -> Path:
        """Where the command line puts the files of a study of this name."""
        return self.home / name


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A study at one moment. `version` changes whenever anything else does.

    `budgets` are the questions that the page was opened with, if any. `location` is the study on
    the command line, `folder` that of its files. `problem` says why it cannot be read; `loading`
    that it has not been read yet.
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

    @property
    def findings(self) -> Findings:
        """What its answers rest on."""
        return findings_of(self.records, self.settings, self.measured.retrained)

    @property
    def questions(self) -> tuple[Budget, ...]:
        """The budgets that the page answers first; none before anything is trained."""
        findings = self.findings
        asked = self.budgets or findings.requested
        return asked or tuple(filter(None, [findings.main_budget]))


class _Reader:
    """Reads one study; trials that have ended are decoded once."""

    def __init__(self, shelf: Shelf, name: str, budgets: tuple[Budget, ...]) -> None:
        self._shelf, self._name = shelf, name
        self._lock = threading.Lock()
        self._store: StudyStore | None = None
        self._ended: dict[tuple[str, int], TrialRecord | None] = {}
        self._seen: object = None
        self._identity: object = None
        self.snapshot = Snapshot(
            name, shelf.location(name), shelf.folder(name), budgets=budgets, loading=True
        )

    def refresh(self) -> None:
        """Take up what is new in the storage."""
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
        identity = self._shelf.identity(self._name)
        if identity != self._identity:  # it was deleted, and perhaps another one was made
            self._store, self._identity = None, identity
        if self._store is None:
            with _collector_at_rest():
                self._store, self._ended, self._seen = self._shelf.open(self._name), {}, None
                self._take_up(self._store)
        else:
            self._take_up(self._store)

    def _take_up(self, store: StudyStore) -> None:
        """Decode the trials that have changed; a new snapshot where one has."""
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
        measured = read_artifacts(self.snapshot.folder, self.snapshot.settings.get("stamp"))
        if measured != self.snapshot.measured:
            self._show(measured=measured)

    def _show(self, **changes: Any) -> None:
        fresh = {"problem": None, "loading": False, "version": self.snapshot.version + 1}
        new = replace(self.snapshot, **{**fresh, **changes})
        if new.problem is None or new.problem != self.snapshot.problem:
            self.snapshot = new


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep the garbage collector off a study: it lives as long as the process.

    Ten thousand trials are millions of objects; walking them again and again would take more than
    half of the time of reading them, and a part of every answer after that.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


class Library:
    """The studies of a shelf. Thread-safe; the first look at a study does not wait for long.

    `budgets` are answered instead of each study's own. `exporting` is held by whoever exports a
    network: one at a time is enough for a machine.
    """

    def __init__(self, shelf: Shelf, budgets: Sequence[Budget] = ()) -> None:
        self._shelf, self._budgets = shelf, tuple(budgets)
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}
        self.exporting = threading.Lock()
        self._first_reads: dict[str, threading.Thread] = {}

    def names(self) -> list[str]:
        """Every study that is there now."""
        return list(self._shelf.names())

    def arguments(self, name: str) -> list[str]:
        """The arguments of the command line that name a study."""
        return self._shelf.arguments(name)

    def snapshot(self, name: str | None) -> Snapshot:
        """A study as it is now; without a name, or with an unknown one, the first of the shelf."""
        known = self.names()
        if not known:
            return Snapshot("", "", RESULTS, problem="expected a study, got none yet")
        name = name if name in known else known[0]
        with self._lock:
            reader = self._readers.get(name)
            if reader is None:
                reader = self._readers[name] = _Reader(self._shelf, name, self._budgets)
                thread = threading.Thread(target=reader.refresh, daemon=True)
                self._first_reads[name] = thread
                thread.start()
        first = self._first_reads[name]
        if first.is_alive():
            first.join(_PATIENCE)
        else:
            reader.refresh()
        return reader.snapshot


def open_shelf(results: Path | None, url: str | None) -> Shelf:
    """The shelf that the command line means.

    Raises:
        StorageError: there is no study.
    """
    if url is not None:
        first = None if results is None else results.name
        shelf = Database(url, first, beside_database(results))
        known = shelf.names()
        if not known or (first is not None and first not in known):
            raise StorageError(
                f"expected {'a study' if first is None else f'a study {first!r}'} in the database, "
                f"got {', '.join(known) or 'none'}"
            )
        return shelf
    path = results or RESULTS
    results_folder(path)
    return ResultsFolder(path)
