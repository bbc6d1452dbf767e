"""Text files in UTF-8 or UTF-16, with or without a byte order mark."""

from __future__ import annotations

import codecs
import stat
from pathlib import Path

from mbsearch.errors import MbsearchError

# The marks of UTF-32 begin with those of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def require_regular(path: Path, kind: str, error: type[MbsearchError]) -> None:
    """Raise `error` unless a path is a regular file; reading a named pipe would block.

    `kind` is what the message expects, as "a YAML file".
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise error(f"{path}: expected {kind}, got no such file") from None
    except OSError as fault:
        raise error(f"{path}: cannot be read: {fault.strerror}") from None
    except ValueError:  # a null byte
        raise error(f"{path}: expected {kind}, got a name that no file can have") from None
    if stat.S_ISDIR(found.st_mode):
        raise error(f"{path}: expected {kind}, got a folder")
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: expected {kind}, got a pipe, socket or device")


def read_text(path: Path, kind: str, error: type[MbsearchError], most_bytes: int) -> str:
    """Return the text of a regular file.

    Args:
        path: of the file.
        kind: what the messages expect, as "a YAML file".
        error: class of the exceptions.
        most_bytes: size of the largest file that is read.

    Raises:
        MbsearchError: the file is missing, not regular, too large, or neither UTF-8 nor UTF-16.
    """
    require_regular(path, kind, error)
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as fault:
        raise error(f"{path}: cannot be read: {fault.strerror}") from None
    if len(content) > most_bytes:
        raise error(f"{path}: expected {kind} of at most {most_bytes:,} bytes, got a larger one")
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    encoding = _MARKS[mark] if mark else _without_mark(content)
    try:
        return content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as fault:
        before = content[len(mark) : len(mark) + fault.start].decode(encoding, "replace")
        line = before.count("\n") + 1
        raise error(
            f"{path.name}:{line}: expected {kind} in UTF-8 or UTF-16, got byte "
            f"{fault.object[fault.start]:#04x}"
        ) from None


def _without_mark(content: bytes) -> str:
    """Return the encoding of text that begins with ASCII and has no byte order mark."""
    if content[:1] == b"\0" and content[1:2] != b"\0":
        return "utf-16-be"
    return "utf-16-le" if content[1:2] == b"\0" != content[:1] and content else "utf-8"
