"""The exceptions of mbsearch.

    MbsearchError
    ├── SpecError         a YAML file, a space, an architecture or a parameter is invalid
    ├── DataError         images: missing, unreadable, too few, not downloadable
    ├── StorageError      a study: damaged, busy, not writable, or made by other settings
    │   ├── NoStudyError      there is no study in the folder or the database
    │   └── NoAnswerError     no trained network is within a budget
    ├── EvaluationError   one network could not be trained or measured
    ├── ClusterError      a Ray cluster: missing, full, or Ray is not installed
    └── ExportError       a network could not be written, or did not read back the same

The command line prints their message on one line and exits with code 2. Any other exception is a
defect of mbsearch.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MbsearchError(Exception):
    """Base class of all errors whose message is for the user."""


class SpecError(MbsearchError):
    """A YAML file, search space, architecture or parameter is not valid."""


class DataError(MbsearchError):
    """Images cannot be found, read, split or downloaded."""


class StorageError(MbsearchError):
    """A study cannot be opened, read or written."""


class NoStudyError(StorageError):
    """There is no study in a folder, or none of that name in a database."""


class NoAnswerError(StorageError):
    """A study has no trained network within a budget."""


class EvaluationError(MbsearchError):
    """A network failed to train or to be measured; the study continues without it."""


class ClusterError(MbsearchError):
    """A Ray cluster cannot be used: it or Ray is missing, or it has too few resources."""


class ExportError(MbsearchError):
    """A network could not be exported, or the exported file disagrees with the network."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a suggestion of the closest known word, or an empty text, to append to a message."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
