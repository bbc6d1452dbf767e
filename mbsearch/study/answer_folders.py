"""The folders ``answer-20M`` in a study's folder: what their model cards say of the int8 file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NETWORK = re.compile(r"^\| Network \| `([0-9a-f]{16})`", re.MULTILINE)
# A row of the card's table of files; a line of its own in earlier cards.
_INT8 = re.compile(
    r"^(?:\| )?`model\.int8\.onnx`(?:: | \|[^|\n]*\| )"
    r"(int8 classifies ([0-9.]+) of \d+ (\w+) images [^|\n]*?)(?: \|)?$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Int8Accuracy:
    """Accuracy of an exported int8 file on the images of a split, and the card's sentence on it."""

    accuracy: float
    split: str
    sentence: str


def read_int8(folder: Path) -> Mapping[str, Int8Accuracy]:
    """Read the accuracy of the int8 files in a study's folder, by the network's fingerprint."""
    found = {}
    for card in sorted(folder.glob("answer-*/README.md")):
        try:
            text = card.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:  # an export replaces the folder
            continue
        network, int8 = _NETWORK.search(text), _INT8.search(text)
        if network and int8:
            found[network[1]] = Int8Accuracy(float(int8[2]), int8[3], int8[1])
    return found
