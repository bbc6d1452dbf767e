"""Files of long trainings beside a study: checkpoints of running ones, weights of completed ones.

Each training has a folder of its own, named after the network and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FINALS_FOLDER = "finals"
RETRAIN_FOLDER = "retrain"
CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.pt"


def training_folder(home: Path, fingerprint: str, seed: int) -> Path:
    """Return the folder of one training below the folder of its recipe."""
    return home / f"{fingerprint}-seed{seed}"


@dataclass(frozen=True, slots=True)
class FinalFiles:
    """The files of a study's finals. `folder` is the study's."""

    folder: Path

    def checkpoint(self, fingerprint: str, seed: int) -> Path:
        """Return the path of a training's state after its last epoch; deleted on completion."""
        return self._home(fingerprint, seed) / CHECKPOINT

    def weights(self, fingerprint: str, seed: int) -> Path:
        """Return the path of a training's weights."""
        return self._home(fingerprint, seed) / WEIGHTS

    def _home(self, fingerprint: str, seed: int) -> Path:
        return training_folder(self.folder / FINALS_FOLDER, fingerprint, seed)
