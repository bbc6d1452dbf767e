"""The journal file of a study: Optuna's journal storage, safe against kill -9 and foreign writers.

A line of a journal is an operation of Optuna as JSON, with two keys more: ``mbsearch`` is the
number of the line, from 0, and ``chain`` is a checksum of the line and of all lines before it. So a
line that was changed, added, moved or removed is found when the journal is opened, before anyone
writes. Optuna's own storage ignores both keys. Journals of versions without them can be continued:
the first checksum covers their lines.

Optuna's own file locks stall or spin after their owner is killed, and an incomplete last line makes
its journal unreadable. Here the kernel releases the lock with its owner, and the next writer trims
an incomplete last line that begins as a line of mbsearch does.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from mbsearch.errors import NoStudyError, StorageError
from mbsearch.study.lock import file_lock
from mbsearch.study.store import BASELINES, study_names, to_record

_CREATE_STUDY = 0  # Optuna's code of the operation
_CHAIN = re.compile(rb',"chain":"([0-9a-f]{16})"\}\n\Z')


class DamagedJournalError(StorageError):
    """Raised if a line of a journal differs from what was written there."""

    def __init__(self, path: Path, line: int, reason: str, advice: str = "") -> None:
        super().__init__(f"{path}:{line}: the study is damaged: {reason}{advice}")
        self.line, self.reason = line, reason


@dataclass(frozen=True, slots=True)
class _Position:
    """A place between two lines of a journal.

    Args:
        lines: before it.
        offset: bytes before it.
        checksum: of the lines before it.
        chained: whether the line before it has a checksum.
    """

    lines: int = 0
    offset: int = 0
    checksum: bytes = b""
    chained: bool = False

    @property
    def start(self) -> bytes:
        """Return the first bytes of a line that mbsearch writes at this position."""
        return b'{"mbsearch":%d,' % self.lines

    def may_begin(self, torn: bytes) -> bool:
        """Return whether an incomplete line starts like one that mbsearch writes here."""
        starts = [self.start]
        if self.lines and not self.chained:
            starts.append(b'{"op_code":')  # as versions without checksums wrote
        return any(torn.startswith(start) or start.startswith(torn) for start in starts)

    def written(self, log: dict[str, Any]) -> tuple[bytes, _Position]:
        """Return the line that stores an operation here, and the position after the line."""
        text = json.dumps({"mbsearch": self.lines, **log}, separators=(",", ":"))
        body = text[:-1].encode()
        checksum = self._checksum_with(body)
        line = body + b',"chain":"%s"}\n' % checksum.hex().encode()
        return line, self._after(line, checksum, chained=True)

    def read(self, line: bytes) -> tuple[dict[str, Any], _Position]:
        """Return the operation that a line here stores, and the position after the line.

        Raises:
            ValueError: the line is not the one that was written here.
        """
        log = json.loads(line)
        if not isinstance(log, dict):
            raise ValueError("expected a line of JSON with keys")
        found = _CHAIN.search(line)
        if found is None:
            if self.chained or "mbsearch" in log:
                raise ValueError("expected a line with the checksum of mbsearch, got one without")
            return log, self._after(line, self._checksum_with(line), chained=False)
        if (number := log.get("mbsearch")) != self.lines:
            raise ValueError(
                f"expected line {self.lines + 1} of the journal, got {_ordinal(number)}"
            )
        checksum = self._checksum_with(line[: found.start()])
        if checksum.hex().encode() != found[1]:
            raise ValueError("the checksum of it and the lines before does not match")
        return log, self._after(line, checksum, chained=True)

    def _checksum_with(self, body: bytes) -> bytes:
        return blake2b(self.checksum + body, digest_size=8).digest()

    def _after(self, line: bytes, checksum: bytes, *, chained: bool) -> _Position:
        return _Position(self.lines + 1, self.offset + len(line), checksum, chained)


def _ordinal(number: object) -> str:
    return f"line {number + 1}" if isinstance(number, int) else "one without a number"


class JournalFile(BaseJournalBackend):
    """A journal file, each line of which a reader verifies once.

    It is synced to disk for each trial instead of each parameter. A kill loses no line that was
    written; a power cut may lose lines after the last sync. Lines of parameters are not synced: the
    lines of the trial that follow them are.

    Args:
        path: of the file.
        most: lines to read; None for all.
    """

    def __init__(self, path: Path, most: int | None = None) -> None:
        self._path, self._most = path, most
        self._read = _Position()  # what the storage has got
        self._end = _Position()  # what is known to be whole

    @property
    def lines(self) -> int:
        """Return the number of lines that were read."""
        return self._read.lines

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Iterate over the operations from line `log_number_from` on.

        Raises:
            DamagedJournalError: a line is not the one that was written.
        """
        if log_number_from < self._read.lines:  # another storage reads, from the start
            self._read = _Position()
        for log, position in self._lines(self._read):
            self._read = position
            if position.lines > log_number_from:
                yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append operations, after what other processes have appended.

        Raises:
            DamagedJournalError: a line of another process is not whole.
            StorageError: the file cannot be written.
        """
        with file_lock(self._path.with_name(self._path.name + ".lock")):
            end = max(self._read, self._end, key=lambda position: position.offset)
            for _, position in self._lines(end):
                end = position
            self._end = self._write(logs, end)

    def _write(self, logs: list[dict[str, Any]], end: _Position) -> _Position:
        position, lines = end, b""
        for log in logs:
            line, position = position.written(log)
            lines += line
        try:
            # Not "ab", which would create the file again.
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND), "ab", 0) as file:
                file.truncate(end.offset)  # of an incomplete line of mbsearch
                try:
                    while lines:
                        lines = lines[file.write(lines) :]
                    if not all("param_name" in log for log in logs):
                        os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):
                        file.truncate(end.offset)
                    raise
        except OSError as error:
            raise StorageError(
                f"{self._path}: cannot be written: {error.strerror}; completed trials are saved, "
                "run the same command to resume"
            ) from None
        return position

    def _lines(self, position: _Position) -> Iterator[tuple[dict[str, Any], _Position]]:
        """Yield the operation of each whole line after a position, and the position after it."""
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < position.offset:
                raise DamagedJournalError(
                    self._path, position.lines, "lines that were read are missing"
                )
            file.seek(position.offset)
            for line in file:
                if position.lines == self._most:
                    return
                if not line.endswith(b"\n"):
                    if not position.may_begin(line):
                        raise self._damage(position, f"it has no end: {line[:40]!r}")
                    return
                try:
                    log, position = position.read(line)
                except ValueError as error:
                    raise self._damage(position, _reason(error, line)) from None
                yield log, position

    def _damage(self, position: _Position, reason: str) -> StorageError:
        return DamagedJournalError(self._path, position.lines + 1, reason)


def _reason(error: ValueError, line: bytes) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return f"expected a line of JSON, got {line[:40]!r}"
    return str(error)


def open_journal(path: Path, *, create: bool) -> JournalStorage:
    """Open the journal of a study, and verify all of it.

    Args:
        path: of the file.
        create: open it for writing, and create it if it does not exist.

    Raises:
        NoStudyError: there is no study in it (without `create`).
        StorageError: it cannot be written, is damaged, or is no journal of mbsearch. The message
            names a damaged line and the number of trials before it.
    """
    if not create and not path.is_file():
        raise NoStudyError(f"{path.parent}: expected a study, got no {path.name} in this folder")
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() and not path.exists():
                raise StorageError(f"{path}: expected a file, got a link to none; remove it")
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        storage = _replayed(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be opened: {error.strerror}") from None
    except DamagedJournalError as damage:
        whole = _whole_trials(path, damage.line - 1)
        raise DamagedJournalError(
            path,
            damage.line,
            damage.reason,
            f"; {whole} {'trial' if whole == 1 else 'trials'} before it are whole, and `mbsearch "
            f"status {shlex.quote(str(path.parent))} --repair` copies them to a new study",
        ) from None
    if not create and not study_names(storage):
        raise NoStudyError(
            f"{path}: expected a study, got an empty journal; make one with `mbsearch run`"
        )
    return storage


def _replayed(path: Path) -> JournalStorage:
    """Return the Optuna storage of a journal, after verifying all of it.

    Raises:
        StorageError: it is no journal of mbsearch.
        DamagedJournalError: a line of it is not what was written.
    """
    _require_own(path)
    # Optuna opens the file again by its path, also after the working folder has changed.
    backend = JournalFile(path.resolve())
    try:
        return JournalStorage(backend)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        reason = "it does not fit the lines before it"
        raise DamagedJournalError(path, backend.lines, reason) from None


def _whole_trials(path: Path, lines: int) -> int:
    """Count the trials that no longer run in the first `lines` lines of a journal."""
    storage = JournalStorage(JournalFile(path, lines))
    return sum(
        trial.state.is_finished() and to_record(trial) is not None
        for study in storage.get_all_studies()
        for trial in storage.get_all_trials(study._study_id, deepcopy=False)
    )


def _require_own(path: Path) -> None:
    """Raise an error for a file that is not a journal of mbsearch.

    Raises:
        StorageError: it is another file.
        DamagedJournalError: it is a journal without its first lines.
    """
    with path.open("rb") as file:
        first, second = file.readline(), file.readline()
    if not first or _CHAIN.search(first) or _CHAIN.search(second) or _creates_baselines(second):
        return
    if not first.endswith(b"\n") and _Position().may_begin(first):
        return
    operation = _operation(first)
    if operation is not None and (operation != _CREATE_STUDY or _creates_baselines(first)):
        raise DamagedJournalError(path, 1, "the lines before it are missing")
    got = "another file" if operation is None else "an Optuna journal of another program"
    raise StorageError(
        f"{path}: expected the journal of a study of mbsearch, got {got}; nothing is written to it"
    )


def _creates_baselines(line: bytes) -> bool:
    """Return whether a line creates the Optuna study of the baselines."""
    return _operation(line) == _CREATE_STUDY and json.loads(line)["study_name"].endswith(BASELINES)


def _operation(line: bytes) -> object:
    """Return the Optuna code of a line's operation; None if the line has none."""
    try:
        log = json.loads(line)
    except ValueError:
        return None
    return log.get("op_code") if isinstance(log, dict) else None
