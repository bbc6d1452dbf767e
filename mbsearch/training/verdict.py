"""What retraining says: test accuracies over seeds, and whether a candidate's lead holds."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mbsearch.errors import StorageError
from mbsearch.measured import RETRAINED
from mbsearch.report import write_whole
from mbsearch.training.entrants import Entrant

FOLDER = "retrain"
WEIGHTS = "weights.pt"
_CONFIDENCE = 0.95


def training_folder(home: Path, fingerprint: str, seed: int) -> Path:
    """Where one training lives below the folder of its recipe."""
    return home / f"{fingerprint}-seed{seed}"


@dataclass(frozen=True, slots=True)
class Retrained:
    """What became of an entrant: one test accuracy a seed."""

    entrant: Entrant
    costs: dict[str, int]
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    seconds: float
    pixels: int

    @property
    def mean(self) -> float:
        """Mean test accuracy over the seeds."""
        return float(np.mean(self.accuracies))

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None of a single one."""
        return float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else None


@dataclass(frozen=True, slots=True)
class Lead:
    """Mean test accuracy of a candidate minus that of a rival, with its 95 % interval over seeds.

    The interval is Welch's; NaN at both ends where a network has only one seed.
    """

    candidate: str
    rival: str
    difference: float
    lower: float
    upper: float

    def sentence(self) -> str:
        """In words, with a verdict."""
        text = f"{self.candidate} is {self.difference:+.4f} from {self.rival}"
        if math.isnan(self.lower):
            return f"{text} (a single seed: nothing can be said of the noise)"
        if self.lower > 0:
            verdict = "the lead holds"
        elif self.upper < 0:
            verdict = "it is behind"
        else:
            verdict = "no lead that the seeds can tell from none"
        return f"{text}, 95 % interval over seeds {self.lower:+.4f} to {self.upper:+.4f}: {verdict}"


def leads(results: Sequence[Retrained]) -> list[Lead]:
    """Every candidate against the references of its cost."""
    candidates = {r.entrant.name: r for r in results if r.entrant.rival_of is None}
    return [
        _lead(candidates[result.entrant.rival_of], result)
        for result in results
        if result.entrant.rival_of is not None
    ]


def _lead(candidate: Retrained, rival: Retrained) -> Lead:
    lower = upper = math.nan
    if min(len(candidate.accuracies), len(rival.accuracies)) > 1:
        if (candidate.spread, rival.spread) == (0.0, 0.0):
            lower = upper = candidate.mean - rival.mean
        else:
            from scipy import stats  # here, since every worker imports this module

            with warnings.catch_warnings(action="ignore"):  # equal seeds of one are no trouble
                test = stats.ttest_ind(candidate.accuracies, rival.accuracies, equal_var=False)
            lower, upper = (float(end) for end in test.confidence_interval(_CONFIDENCE))
    names = candidate.entrant.name, rival.entrant.name
    return Lead(*names, candidate.mean - rival.mean, lower, upper)


def write_retrained(
    folder: Path, results: Sequence[Retrained], settings: Mapping[str, Any]
) -> list[Path]:
    """Write retrain.json and retrain.csv into a study's folder.

    What is there of the same settings stays, but for candidates that are among the results.

    Raises:
        StorageError: they cannot be written.
    """
    import pandas as pd

    rows = [
        {
            "name": result.entrant.name,
            "family": result.entrant.family,
            "rival_of": result.entrant.rival_of,
            "fingerprint": result.entrant.architecture.fingerprint,
            "alpha": result.entrant.architecture.alpha,
            "resolution": result.entrant.architecture.resolution,
            **result.costs,
            "proxy_accuracy": result.entrant.proxy_accuracy,
            "test_accuracy": result.mean,
            "spread": result.spread,
            "accuracies": list(result.accuracies),
            "seeds": list(result.seeds),
            "pixels": result.pixels,
            "seconds": result.seconds,
        }
        for result in results
    ]
    found = [_plain(lead) for lead in leads(results)]
    earlier_rows, earlier_leads = _before(folder, settings, {_beside(row) for row in rows})
    rows, found = earlier_rows + rows, earlier_leads + found
    text = json.dumps({"settings": dict(settings), "networks": rows, "leads": found}, indent=2)
    table = pd.DataFrame(rows).to_csv(index=False)
    return [
        write_whole(folder / RETRAINED, text + "\n"),
        write_whole(folder / "retrain.csv", table),
    ]


def _before(
    folder: Path, settings: Mapping[str, Any], but: Set[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and leads of earlier retraining by these settings; of some candidates none.

    None of a damaged file either, for that is written anew.
    """
    try:
        found = json.loads((folder / RETRAINED).read_text(encoding="utf-8"))
        if found["settings"] == json.loads(json.dumps(dict(settings))):
            return (
                [row for row in found["networks"] if _beside(row) not in but],
                [lead for lead in found["leads"] if lead["candidate"] not in but],
            )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return [], []


def _beside(row: Mapping[str, Any]) -> str:
    """The candidate that a row stands beside: itself, where it is none's rival."""
    candidate: str = row["rival_of"] or row["name"]
    return candidate


def _plain(lead: Lead) -> dict[str, Any]:
    values = asdict(lead) | {"sentence": lead.sentence()}
    return {k: None if v != v else v for k, v in values.items()}


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a retrained network's weights lie, and what the test said of them."""

    weights: Path
    seed: int
    accuracy: float
    mean: float
    spread: float | None
    seeds: int
    pixels: int
    recipe: Mapping[str, Any]

    def sentence(self) -> str:
        """In words, for a model card."""
        spread = "" if self.spread is None else f" ± {self.spread:.4f}"
        return (
            f"trained by `mbsearch retrain` at {self.pixels} pixels with seed {self.seed}: test "
            f"accuracy {self.accuracy:.4f} (over {self.seeds} seeds {self.mean:.4f}{spread}). The "
            "files take images of that size; `mbsearch retrain --scale 1` trains at the "
            "architecture's own."
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
