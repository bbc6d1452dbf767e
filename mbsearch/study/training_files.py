"""Paths of the checkpoints and weights of long trainings in a study's folder.

Each training has a folder of its own, named after the network and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FINALS_FOLDER = "finals"
RETRAIN_FOLDER = "retrain"
CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.pt"
INT8_WEIGHTS = "int8.pt"
"""Weights of a retraining that were fine-tuned for int8."""


def training_folder(home: Path, fingerprint: str, seed: int) -> Path:
    """Return the folder of one training, inside its recipe's folder."""
    return home / f"{fingerprint}-seed{seed}"


@dataclass(frozen=True, slots=True)
class FinalFiles:
    """The paths of a study's finals, in its `folder`."""

    folder: Path

    def checkpoint(self, fingerprint: str, seed: int) -> Path:
        """Return the path of a final's checkpoint, which is deleted when the final completes."""
        return self._home(fingerprint, seed) / CHECKPOINT

    def weights(self, fingerprint: str, seed: int) -> Path:
        """Return the path of a final's trained weights."""
        return self._home(fingerprint, seed) / WEIGHTS

    def _home(self, fingerprint: str, seed: int) -> Path:
        return training_folder(self.folder / FINALS_FOLDER, fingerprint, seed)
