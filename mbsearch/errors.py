"""The exceptions mbsearch raises for its users' mistakes and their machines' troubles.

    MbsearchError
    ├── SpecError         a YAML file, a space, an architecture or a parameter is not valid
    ├── DataError         images: missing, unreadable, too few, not downloadable
    ├── StorageError      a study: damaged, busy, not writable, or made by other settings
    │   └── NoAnswerError     no trained network keeps a budget
    ├── EvaluationError   one network could not be trained or measured
    ├── ClusterError      a Ray cluster: not there, without room, or not installed
    └── ExportError       a network could not be written, or did not read back the same

The command line prints the message of any of them on one line and exits with code 2; anything else
that reaches the surface is a defect of mbsearch.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MbsearchError(Exception):
    """Base of every error that carries a message meant for the user."""


class SpecError(MbsearchError):
    """A description (YAML, space, architecture, parameters) is not valid."""


class DataError(MbsearchError):
    """Images cannot be found, read, split or downloaded."""


class StorageError(MbsearchError):
    """A study cannot be opened, read or written."""


class NoAnswerError(StorageError):
    """No trained network of a study keeps a budget."""


class EvaluationError(MbsearchError):
    """One network failed to train or to be measured; the study goes on without it."""


class ClusterError(MbsearchError):
    """A Ray cluster cannot be used: Ray is missing, or the cluster is, or its nodes are too few."""


class ExportError(MbsearchError):
    """A network could not be exported, or the exported file disagrees with the network."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suffix for a message about an unknown word: the nearest known one, or the empty string."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
