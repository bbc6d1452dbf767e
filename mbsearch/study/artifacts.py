"""Read all files that commands write beside a study; a damaged file does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mbsearch.errors import StorageError
from mbsearch.study.answer_folders import Int8Accuracy, read_int8
from mbsearch.study.audit_file import Audit, read_audit
from mbsearch.study.identity import Identity
from mbsearch.study.latency_file import LatencyFile, Quartiles
from mbsearch.study.retrained_file import Retrained, read_retrained

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The files beside a study, and in `problems` one line for each damaged file.

    `latencies` is by metric (``onnxruntime_us``), then by a network's fingerprint. `int8` is by
    fingerprint, of the answers that were exported.
    """

    audit: Audit | None = None
    latencies: Mapping[str, Mapping[str, Quartiles]] = field(default_factory=dict)
    retrained: tuple[Retrained, ...] = ()
    problems: tuple[str, ...] = ()
    int8: Mapping[str, Int8Accuracy] = field(default_factory=dict)

    def retrained_beside(self, fingerprint: str) -> list[Retrained]:
        """Return a retrained network, and the references that it is compared with."""
        names = [each.name for each in self.retrained if each.fingerprint == fingerprint]
        return [each for each in self.retrained if each.name in names or each.candidate in names]


def read_artifacts(folder: Path, identity: Identity | None = None) -> Artifacts:
    """Read the audit, latencies and retraining results in a study's folder."""
    problems: list[str] = []

    def known(read: Callable[[Path], T], otherwise: T) -> T:
        try:
            return read(folder)
        except StorageError as error:
            problems.append(str(error))
            return otherwise

    return Artifacts(
        audit=known(lambda folder: read_audit(folder, identity), None),
        latencies=known(lambda folder: LatencyFile.read(folder).by_metric(), {}),
        retrained=known(read_retrained, ()),
        problems=tuple(problems),  # after all are read
        int8=read_int8(folder),
    )
