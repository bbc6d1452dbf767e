"""The image files of a data set with the classes and splits that a layout gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mbsearch.data.listing import Listing

SPLIT_WORDS: Mapping[str, str] = MappingProxyType(
    {  # in lower case
        "train": "train",
        "training": "train",
        "val": "validation",
        "valid": "validation",
        "validation": "validation",
        "test": "test",
        "testing": "test",
    }
)
"""The splits by the words that name them."""


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Files with classes and splits, before any of them is read.

    Args:
        root: a folder that contains all files.
        parts: the splits that are given, "train" always.
        class_names: in the order of a network's outputs.
        places: text that identifies a class of a split in messages.
        listing: the files.
        in_class_folders: whether the path of a file names its class.
        notes: lines of text on what the layout leaves out.
    """

    root: Path
    parts: tuple[str, ...]
    class_names: tuple[str, ...]
    places: Mapping[tuple[str, str], str]
    listing: Listing
    in_class_folders: bool = True
    notes: tuple[str, ...] = ()
