"""``notes.json``: a reader's pins and notes on networks, beside the study."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.json_files import read_json

NOTES = "notes.json"


@dataclass(frozen=True, slots=True)
class Note:
    """A note on a network, and whether the network is pinned."""

    text: str = ""
    pinned: bool = False


def read_notes(folder: Path) -> dict[str, Note]:
    """Return the notes in a study's folder, by fingerprint of the network.

    Raises:
        StorageError: the file is damaged.
    """
    return read_json(folder / NOTES, "dashboard", _decoded) or {}


def write_note(folder: Path, fingerprint: str, note: Note) -> None:
    """Store the note on a network, replacing any earlier one; an empty note removes it.

    Raises:
        StorageError: the file is damaged, or cannot be written.
    """
    notes = read_notes(folder) | {fingerprint: note}
    data = {
        network: {"text": each.text, "pinned": each.pinned}
        for network, each in notes.items()
        if each != Note()
    }
    write_atomically(folder / NOTES, json.dumps(data, indent=2) + "\n")


def _decoded(data: Any) -> dict[str, Note]:
    return {
        str(network): Note(str(row["text"]), bool(row["pinned"])) for network, row in data.items()
    }
