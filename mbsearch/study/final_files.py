"""Files of final trainings beside a study: checkpoints while they run, weights when they end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mbsearch.errors import StorageError

FOLDER = "finals"


@dataclass(frozen=True, slots=True)
class FinalFiles:
    """The files of the finals of one study, below `folder`: one network and seed, one folder."""

    folder: Path

    def checkpoint(self, fingerprint: str, seed: int) -> Path:
        """State of a training after its last epoch; gone when the training has ended."""
        return self._home(fingerprint, seed) / "checkpoint.pt"

    def weights(self, fingerprint: str, seed: int) -> Path:
        """Trained weights."""
        return self._home(fingerprint, seed) / "weights.pt"

    def _home(self, fingerprint: str, seed: int) -> Path:
        return self.folder / FOLDER / f"{fingerprint}-seed{seed}"


def write_bytes_whole(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves the old one or the new one.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None
