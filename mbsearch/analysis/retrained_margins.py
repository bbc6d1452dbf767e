"""What retraining leaves: test accuracies over seeds, margins over references, and weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbsearch.analysis.answer import Interval, points, retrained_margin
from mbsearch.errors import StorageError
from mbsearch.study.artifacts import RETRAINED, Retrained, read_retrained
from mbsearch.study.atomic_files import write_atomically

FOLDER = "retrain"
WEIGHTS = "weights.pt"


def training_folder(home: Path, fingerprint: str, seed: int) -> Path:
    """Where one training lives below the folder of its recipe."""
    return home / f"{fingerprint}-seed{seed}"


@dataclass(frozen=True, slots=True)
class Lead:
    """Mean test accuracy of a candidate minus that of a reference, with its 95 % interval."""

    candidate: str
    rival: str
    difference: Interval

    def sentence(self) -> str:
        """In words, with a verdict."""
        lead = points(self.difference.mean)
        return f"{self.candidate}: {lead} points over {self.rival} ({self.difference.in_points()})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "candidate": self.candidate,
            "rival": self.rival,
            "difference": self.difference.mean,
            "lower": self.difference.low,
            "upper": self.difference.high,
            "sentence": self.sentence(),
        }


def leads(retrained: Sequence[Retrained]) -> list[Lead]:
    """Every candidate against the references beside it."""
    candidates = {r.name: r for r in retrained if r.rival_of is None}
    return [
        Lead(r.rival_of, r.name, retrained_margin(candidates[r.rival_of], r, retrained))
        for r in retrained
        if r.rival_of is not None
    ]


def write_retrained(
    folder: Path, results: Sequence[Retrained], settings: Mapping[str, Any]
) -> list[Retrained]:
    """Write retrain.json and retrain.csv into a study's folder; all that they have then.

    What is there of the same settings stays: networks, and seeds of the same network.

    Raises:
        StorageError: they cannot be written.
    """
    import pandas as pd

    earlier = _before(folder, settings)
    trained = {each.fingerprint: each for each in reversed(earlier)}
    results = [r.joined(trained[r.fingerprint]) if r.fingerprint in trained else r for r in results]
    fresh = {each.fingerprint: each for each in results}
    beside = {each.beside for each in results}
    kept = [
        replace(each, **_trainings(fresh[each.fingerprint])) if each.fingerprint in fresh else each
        for each in earlier
        if each.beside not in beside
    ]
    whole = [*kept, *results]
    text = json.dumps(
        {
            "settings": dict(settings),
            "networks": [each.to_dict() for each in whole],
            "leads": [lead.to_dict() for lead in leads(whole)],
        },
        indent=2,
    )
    write_atomically(folder / RETRAINED, text + "\n")
    table = pd.DataFrame([each.to_row() for each in whole])
    write_atomically(folder / "retrain.csv", table.to_csv(index=False))
    return results


def _trainings(network: Retrained) -> dict[str, Any]:
    """The fields of a network that its trainings change."""
    names = ("seeds", "accuracies", "predictions", "seconds")
    return {name: getattr(network, name) for name in names}


def _before(folder: Path, settings: Mapping[str, Any]) -> tuple[Retrained, ...]:
    """Networks of earlier retraining by these settings; none of a damaged file."""
    try:
        found = json.loads((folder / RETRAINED).read_text(encoding="utf-8"))["settings"]
        same = found == json.loads(json.dumps(dict(settings)))
        return read_retrained(folder) if same else ()
    except (OSError, ValueError, KeyError, TypeError, StorageError):
        return ()


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a trained network's weights lie, and its accuracy on the images of a split.

    `command` trained it.
    """

    weights: Path
    seed: int
    accuracy: float
    mean: float
    spread: float | None
    seeds: int
    pixels: int
    recipe: Mapping[str, Any]
    split: str = "test"
    command: str = "mbsearch retrain"

    def sentence(self) -> str:
        """In words, for a model card."""
        spread = "" if self.spread is None else f" ± {self.spread:.4f}"
        return (
            f"trained by `{self.command}` at {self.pixels} pixels with seed {self.seed}: "
            f"{self.split} accuracy {self.accuracy:.4f} (over {self.seeds} seeds {self.mean:.4f}"
            f"{spread}). The files take images of that size."
        )


def retrained(folder: Path, fingerprint: str) -> Trained | None:
    """What retraining left of a network in a study's folder: its first seed; None without any.

    Raises:
        StorageError: ``retrain.json`` cannot be read.
    """
    path = folder / RETRAINED
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        row = next((r for r in found["networks"] if r["fingerprint"] == fingerprint), None)
        if row is None:
            return None
        home = folder / FOLDER / found["settings"]["folder"]
        return Trained(
            training_folder(home, fingerprint, row["seeds"][0]) / WEIGHTS,
            row["seeds"][0],
            row["accuracies"][0],
            row["test_accuracy"],
            row["spread"],
            len(row["seeds"]),
            row["pixels"],
            found["settings"],
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise StorageError(
            f"{path}: expected what `mbsearch retrain` writes, got {type(error).__name__}: {error}"
        ) from None
